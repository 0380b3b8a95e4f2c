"""Masks from coordinates."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any

from pwem.protocols import EMProtocol
from pyworkflow.constants import NEW
from pyworkflow.object import String
from pyworkflow.protocol.constants import STEPS_SERIAL
from tomo.objects import SetOfTomoMasks

from cryosiam_plugin.convert import tomo_mask_from
from cryosiam_plugin.convert.mask_files import link_map, write_frame
from cryosiam_plugin.convert.mask_particles import Target
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.embedding_runs import linked_files
from cryosiam_plugin.protocols.engine_runs import EngineRuns
from cryosiam_plugin.protocols.feeding import readSet
from cryosiam_plugin.protocols.mask_form import MAPS, defineMaskParams
from cryosiam_plugin.protocols.mask_information import MaskInformation
from cryosiam_plugin.protocols.mask_runs import Drawing, MaskRuns
from cryosiam_plugin.protocols.mask_settings import MaskSettings
from cryosiam_plugin.protocols.outputs import GrowingOutputs
from cryosiam_plugin.protocols.run_configuration import RunConfiguration


class CryosiamMasksOutputs(Enum):
    """The result, besides the set of failed tomograms."""

    masks = SetOfTomoMasks


class ProtCryosiamMasksFromCoordinates(
    MaskRuns,
    MaskSettings,
    GrowingOutputs,
    EngineRuns,
    RunConfiguration,
    MaskInformation,
    EMProtocol,
):
    """Draws masks from the places of particles, to train a segmentation with.

    Each particle becomes a sphere of its class's radius, or the average map of its class, turned
    as the particle is. The result is a mask for each tomogram that has particles: 0 is
    background, 1, 2... are the classes, which keep their names. _train semantic segmentation_
    takes them with their tomograms.

    What nobody picked is background for the training. Pick all particles of a class in the
    tomograms that you train with, or train with a part of them where that is so.
    """

    _label = "masks from coordinates"
    _devStatus = NEW
    _possibleOutputs = CryosiamMasksOutputs
    _primaryOutput = CryosiamMasksOutputs.masks.name
    stepsExecutionMode = STEPS_SERIAL
    MODEL_TASKS = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: JSON: why tomograms failed, by tsId.
        self.failures = String()
        #: JSON: what the engine told about itself, and its warnings by tsId.
        self.engineRecord = String()
        #: JSON: how many particles of which class were drawn, and which were not.
        self.maskRecord = String()
        self._tomograms: dict[str, Any] = {}
        self._drawn = Drawing({}, {})

    def _defineParams(self, form: Any) -> None:
        defineMaskParams(form)
        form.addParallelSection(threads=1, mpi=0)

    # ----------------------------- steps ------------------------------------------------------

    def _insertAllSteps(self) -> None:
        asked = json.dumps(self._configuration(), sort_keys=True)
        # With what failed before: Continue tries that again.
        self._insertFunctionStep(self.drawStep, asked, self.failures.get() or "", needsGPU=False)
        self._insertFunctionStep(self.closeOutputSetsStep, needsGPU=False)

    def drawStep(self, asked: str, failures: str) -> None:
        """Draw the masks; register each as soon as it is there."""
        self._endEarlier(self._table(), self._star(), self._combinedFolder())
        self._forgetFailures()
        before = self._earlierConfiguration()
        self._writeConfiguration()
        if before != self._earlierConfiguration():
            self._forgetDrawn()
        self._tomograms, _ = readSet(self.inputTomograms)
        targets = self._targets()
        self._drawn = self._drawing(self._classes(), targets)
        if not self._drawn.particles:
            raise self._nothing()
        finished = self._tsIdsOf(self._primaryOutput)
        waiting = [tsId for tsId in self._drawn.particles if tsId not in finished]
        for tsId in waiting:
            write_frame(targets[tsId], Path(self._inputFolder()) / f"{tsId}.mrc")
        self._draw(self._drawn, waiting)
        if self.emptyMasks.get():
            self._addEmptyMasks(targets, self._drawn)

    def _targets(self) -> dict[str, Target]:
        """The tomograms that get masks; one whose file cannot be read has failed."""
        targets = {}
        for tsId, tomogram in self._tomograms.items():
            try:
                targets[tsId] = Target.of(tomogram)
            except ValueError as error:
                self._fail(tsId, str(error))
        return targets

    def _draw(self, drawing: Drawing, tsIds: list[str]) -> None:
        if self.shapes.get() != MAPS:
            self._drawSpheres(drawing, self._radiiInVoxels(drawing.names), tsIds)
            return
        maps = {
            label: (link_map(volume, self._mapsFolder(), f"class_{label}"), threshold)
            for label, (volume, threshold) in self._maps(drawing.names).items()
        }
        self._drawMaps(drawing, maps, tsIds)

    def _addEmptyMasks(self, targets: dict[str, Target], drawing: Drawing) -> None:
        # Where all particles were outside there may well be some.
        others = {*drawing.particles, *self._failures()}
        for tsId, target in targets.items():
            if tsId not in others:
                path = self._getExtraPath("predictions", f"{tsId}.mrc")
                write_frame(target, Path(path))
                self._addMask(tsId, path)

    def closeOutputSetsStep(self) -> None:
        """Close the output; fail where there is nothing in it."""
        self._closeOutputSet()
        output = getattr(self, self._primaryOutput, None)
        if output is None or not output.getSize():
            raise self._nothing()

    def _nothing(self) -> ValueError:
        return ValueError("\n".join([self._emptyMessage(), *self._failureLines()]))

    # ----------------------------- results ----------------------------------------------------

    def _onDone(self, tsId: str, first: EngineStatus, last: EngineStatus) -> None:
        if last.output_of_kind("labels", ".mrc") is None:
            raise ValueError("The engine's mask is not there.")
        self._recordStatus(tsId, first, last)
        self._addMask(tsId, self._getExtraPath("predictions", f"{tsId}.mrc"))

    def _addMask(self, tsId: str, path: str) -> None:
        mask = tomo_mask_from(self._tomograms[tsId], path, self._drawn.names)
        self._append(self._primaryOutput, SetOfTomoMasks, [mask], tsId)

    def _tomogramOf(self, tsId: str) -> Any:
        return self._tomograms.get(tsId)

    def _sourcePointers(self) -> list[Any]:
        return [self.inputTomograms, *self._particlePointers()]

    # ----------------------------- the engine -------------------------------------------------

    def _computes(self) -> bool:
        return False

    def _partners(self) -> dict[str, Any]:
        return {}

    def _configFile(self) -> Path:
        return Path(self._getExtraPath("masks.yaml")).absolute()

    def _readFiles(self, tsIds: list[str]) -> list[Path]:
        return linked_files(str(self._mapsFolder()))

    def _mapsFolder(self) -> Path:
        return Path(self._getExtraPath("maps")).absolute()
