"""The engine commands that draw masks, and the files that they work on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable

from cryosiam_plugin.convert.mask_files import write_balls, write_star
from cryosiam_plugin.convert.mask_particles import MaskParticle
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.engine_batch import EngineBatch, Stage
from cryosiam_plugin.protocols.engine_process import ProcessEnd
from cryosiam_plugin.protocols.part import ProtocolPart

_BALLS = "processing_create_sphere_mask"
_BALLS_OF_CLASSES = "processing_create_sphere_mask_multiclass"
_MAPS = "processing_create_binary_map_after_sta"
_COMBINE = "processing_create_multiclass_from_binary_masks"


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn.

    Attributes
    ----------
    names
        Of the classes, by label.
    particles
        By tsId.
    """

    names: dict[int, str]
    particles: dict[str, list[MaskParticle]]

    def of(self, tsIds: Iterable[str], label: int | None = None) -> list[MaskParticle]:
        """The particles of some tomograms; of one class, where a label is given."""
        return [p for t in tsIds for p in self.particles[t] if label in (None, p.label)]


class MaskRuns(ProtocolPart):
    """Mixed into a protocol: how masks are drawn, tomogram by tomogram."""

    if TYPE_CHECKING:

        def _startEngine(
            self, argv: list[str], tsIds: list[str], *, useGpu: bool = False
        ) -> ProcessEnd: ...

        def _onDone(self, tsId: str, first: EngineStatus, last: EngineStatus) -> None: ...

        def _fail(self, tsId: str, reason: str) -> None: ...

    def _drawSpheres(self, drawing: Drawing, radii: dict[int, float], tsIds: list[str]) -> None:
        """Draw balls; radii are in voxels.

        Raises
        ------
        EngineStopped
            When the engine was asked to stop.
        """
        # A radius for every label up to the last: there are no particles of those between.
        listed = ",".join(repr(radii.get(n, 0.0)) for n in range(1, max(radii) + 1))
        command = _BALLS if list(radii) == [1] else _BALLS_OF_CLASSES

        def launch(command: str, asked: list[str]) -> ProcessEnd:
            write_balls(self._table(), drawing.of(asked))
            argv = [command, "--coordinates_file", str(self._table())]
            argv += ["--tomogram_path", self._inputFolder(), "--sphere_radius", listed]
            return self._startEngine([*argv, "--output_dir", self._predictionFolder()], asked)

        stage = Stage.of(command, self._predictionFolder())
        self._batch(stage, launch, self._onDone, self._fail).run(tsIds)

    def _drawMaps(
        self, drawing: Drawing, maps: dict[int, tuple[Path, float]], tsIds: list[str]
    ) -> None:
        """Place maps, each class for itself, then all of them in one mask.

        Parameters
        ----------
        drawing
            The particles.
        maps
            File and threshold of each class.
        tsIds
            The tomograms.

        Raises
        ------
        EngineStopped
            When the engine was asked to stop.
        """
        if list(maps) == [1]:
            folder = self._predictionFolder()
            self._placeMap(drawing, 1, maps[1], folder, tsIds, self._onDone, self._fail)
            return
        done: dict[str, list[EngineStatus]] = {tsId: [] for tsId in tsIds}
        for label in sorted(maps):
            self._placeClass(drawing, label, maps[label], done)
        self._combine(sorted(maps), done)

    def _placeClass(
        self,
        drawing: Drawing,
        label: int,
        average: tuple[Path, float],
        done: dict[str, list[EngineStatus]],
    ) -> None:
        """Place the map of one of several classes; a tomogram where that fails leaves `done`."""

        def placed(tsId: str, first: EngineStatus, last: EngineStatus) -> None:
            done[tsId].append(last)

        def failed(tsId: str, reason: str) -> None:
            del done[tsId]
            self._fail(tsId, f"{drawing.names[label]}: {reason}")

        having = [tsId for tsId in done if drawing.of([tsId], label)]
        folder = str(self._classFolder(label))
        self._placeMap(drawing, label, average, folder, having, placed, failed)

    def _placeMap(
        self,
        drawing: Drawing,
        label: int,
        average: tuple[Path, float],
        folder: str,
        tsIds: list[str],
        on_done: Callable[[str, EngineStatus, EngineStatus], None],
        on_failed: Callable[[str, str], None],
    ) -> None:
        """Place the map of a class at its particles."""

        def launch(command: str, asked: list[str]) -> ProcessEnd:
            write_star(self._star(), drawing.of(asked, label))
            argv = [command, "--star_file", str(self._star()), "--map_file", str(average[0])]
            # With an equals sign: a threshold may be negative, which looks like an option.
            argv += [f"--map_threshold={average[1]!r}", "--example_tomogram", self._inputFolder()]
            return self._startEngine([*argv, "--output_dir", folder], asked)

        self._batch(Stage.of(_MAPS, folder), launch, on_done, on_failed).run(tsIds)

    def _combine(self, labels: list[int], done: dict[str, list[EngineStatus]]) -> None:
        """Put the masks of the classes into one, and hand that on."""

        def launch(command: str, asked: list[str]) -> ProcessEnd:
            self._linkClasses(range(1, labels[-1] + 1), asked)
            argv = [command, "--root_binary_masks_folder", str(self._combinedFolder())]
            return self._startEngine([*argv, "--output_dir", self._predictionFolder()], asked)

        def combined(tsId: str, first: EngineStatus, last: EngineStatus) -> None:
            statuses = [*done[tsId], last]
            warnings = tuple(warning for status in statuses for warning in status.warnings)
            seconds = {str(n): sum(s.seconds.values()) for n, s in enumerate(statuses)}
            whole = replace(last, warnings=warnings, seconds=seconds)
            self._onDone(tsId, whole, whole)

        stage = Stage.of(_COMBINE, self._predictionFolder())
        self._batch(stage, launch, combined, self._fail).run(list(done))

    def _linkClasses(self, labels: Iterable[int], tsIds: list[str]) -> None:
        """Lend the masks of the classes; the place of a folder is the label of its class."""
        shutil.rmtree(self._combinedFolder(), ignore_errors=True)
        for label in labels:
            folder = self._combinedFolder() / self._classFolder(label).name
            folder.mkdir(parents=True)
            for tsId in tsIds:
                mask = self._classFolder(label) / f"{tsId}.mrc"
                # What the engine is shown as the tomogram is an empty mask.
                empty = Path(self._inputFolder()) / f"{tsId}.mrc"
                (folder / f"{tsId}.mrc").symlink_to(mask if mask.exists() else empty)

    def _batch(self, stage: Stage, launch: Any, on_done: Any, on_failed: Any) -> EngineBatch:
        return EngineBatch([stage], launch, on_done, on_failed)

    def _forgetDrawn(self) -> None:
        """Remove what was drawn from other particles, or otherwise."""
        for folder in (self._predictionFolder(), self._classFolders(), self._combinedFolder()):
            shutil.rmtree(folder, ignore_errors=True)

    def _cleanExtraFiles(self) -> None:
        """Remove the masks of each class; the engine's commands can be repeated in their order."""
        shutil.rmtree(self._classFolders(), ignore_errors=True)

    def _table(self) -> Path:
        return Path(self._getExtraPath("particles.csv")).absolute()

    def _star(self) -> Path:
        return Path(self._getExtraPath("particles.star")).absolute()

    def _classFolders(self) -> Path:
        return Path(self._getExtraPath("class_masks")).absolute()

    def _classFolder(self, label: int) -> Path:
        return self._classFolders() / f"{label:03d}"

    def _combinedFolder(self) -> Path:
        return Path(self._getExtraPath("combined")).absolute()
