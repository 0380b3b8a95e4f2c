"""One mask from several: ``processing_create_multiclass_from_binary_masks``."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.errors import ConfigurationError, MaskError, TomogramError
from cryosiam_engine.files import atomic_path
from cryosiam_engine.particles_table import tomogram_stem
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.processing.files import process, stems_in
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output
from cryosiam_engine.volume import VolumeHeader, read_volume, write_mrc_like

logger = logging.getLogger(__name__)

#: Labels are unsigned 16-bit numbers.
_MAX_CLASS = 2**16 - 1
#: The table that says which folder became which class.
CLASS_TABLE = "classes.csv"


@dataclass(frozen=True)
class MaskFiles:
    """The masks of one tomogram, by class."""

    stem: str
    paths: dict[int, Path]


@dataclass
class ClassMask:
    """Labels `(z, y, x)` of one tomogram, and what is to be said about them."""

    stem: str
    labels: NDArray[np.uint16]
    header: VolumeHeader
    warnings: list[str]


class ClassMaskCommand(TomogramCommand[MaskFiles, ClassMask]):
    """``processing_create_multiclass_from_binary_masks``.

    Parameters
    ----------
    masks
        For each class, from 1 on, its masks by the tomogram's stem.
    output_dir
        Where the new masks go.
    """

    name = "processing_create_multiclass_from_binary_masks"

    def __init__(self, masks: dict[int, dict[str, Path]], output_dir: Path) -> None:
        self._masks = masks
        self._output_dir = output_dir

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The masks and their classes."""
        return {
            "masks": {
                str(index): vars(FileIdentity.of(path))
                for index, path in self.load(tomogram).paths.items()
            }
        }

    def load(self, tomogram: Tomogram) -> MaskFiles:
        """Find the masks of the tomogram; they are read one after the other, later."""
        found = {
            index: files[tomogram.stem]
            for index, files in self._masks.items()
            if tomogram.stem in files
        }
        if not found:
            raise MaskError(
                f"No folder has a mask of {tomogram.stem}.",
                remedy="Give the tomogram's name as the masks' files have it.",
            )
        return MaskFiles(tomogram.stem, found)

    def compute(self, loaded: MaskFiles, progress: Progress) -> ClassMask:
        """Put the masks into one, in the order of the classes."""
        labels: NDArray[np.uint16] | None = None
        header: VolumeHeader | None = None
        overlap = 0
        for done, (index, path) in enumerate(loaded.paths.items(), 1):
            volume = _read_mask(path)
            if labels is None or header is None:
                labels, header = np.zeros(volume.data.shape, np.uint16), volume.header
            if volume.data.shape != labels.shape:
                raise MaskError(
                    f"{path} has the size {volume.data.shape}, and the masks of other classes "
                    f"{labels.shape} (z, y, x).",
                    remedy="Make all masks from the same tomogram.",
                )
            for part in slabs(labels.shape):
                inside = volume.data[part] > 0
                overlap += int(np.count_nonzero(labels[part][inside]))
                labels[part][inside] = index
            progress(done, len(loaded.paths))
        if labels is None or header is None:
            raise ValueError("no masks")
        return ClassMask(loaded.stem, labels, header, self._warnings(loaded.paths, overlap))

    def _warnings(self, found: dict[int, Path], overlap: int) -> list[str]:
        warnings = []
        missing = [str(index) for index in self._masks if index not in found]
        if missing:
            warnings.append(f"No mask of the classes {', '.join(missing)}.")
        if overlap:
            warnings.append(f"{overlap} voxels are in several masks; the highest class got them.")
        return warnings

    def save(self, result: ClassMask) -> Saved:
        """Write the mask, with the geometry of the first class's."""
        path = self._output_dir / f"{result.stem}.mrc"
        write_mrc_like(path, result.labels, result.header)
        identity = FileIdentity.of(path)
        outputs = [Output(identity, "labels", result.labels.shape, result.header.voxel_size)]
        return Saved(outputs, warnings=result.warnings)


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Returns
    -------
    int
        0: all done; 1: some tomograms failed.

    Raises
    ------
    ConfigurationError
        When the folders cannot be used.
    OutputError
        When the table of classes cannot be written.
    """
    root, output_dir = Path(args.root_binary_masks_folder), Path(args.output_dir)
    if output_dir.resolve().is_relative_to(root.resolve()):
        raise ConfigurationError(
            f"The output folder {output_dir} is in {root}, where it would count as a class.",
            remedy="Choose an output folder elsewhere.",
        )
    folders = _class_folders(root)
    masks = {index: stems_in(folder) for index, folder in folders.items()}
    _check_masks(folders, masks)
    _write_table(folders, output_dir)
    stems = sorted({stem for files in masks.values() for stem in files})
    if args.tomo_name:
        stems = [tomogram_stem(args.tomo_name)]
    command = ClassMaskCommand(masks, output_dir)
    return process(command, output_dir, [Tomogram(root, stem) for stem in stems])


def _class_folders(root: Path) -> dict[int, Path]:
    try:
        folders = sorted(
            entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError as error:
        raise ConfigurationError(
            f"The folder {root} cannot be listed: {error.strerror or error}.",
            remedy="Give the folder that has a folder of masks for each class.",
        ) from error
    if not folders or len(folders) > _MAX_CLASS:
        raise ConfigurationError(
            f"{root} has {len(folders)} folders; 1 to {_MAX_CLASS} can be made classes.",
            remedy="Give the folder that has a folder of masks for each class.",
        )
    return dict(enumerate(folders, 1))


def _check_masks(folders: dict[int, Path], masks: dict[int, dict[str, Path]]) -> None:
    for index, files in masks.items():
        if not files:
            raise ConfigurationError(
                f"{folders[index]} has no masks (.mrc, .rec), so class {index} would be empty.",
                remedy="Remove the folder, or put its masks there: the number of a class is the "
                "place of its folder.",
            )


def _write_table(folders: dict[int, Path], output_dir: Path) -> None:
    rows = [(index, folder.name) for index, folder in folders.items()]
    with atomic_path(output_dir / CLASS_TABLE) as partial:
        pd.DataFrame(rows, columns=["class", "folder"]).to_csv(partial, index=False)
    for index, name in rows:
        logger.info("Class %d: %s", index, name)


def _read_mask(path: Path) -> Any:
    try:
        return read_volume(path)
    except TomogramError as error:
        raise MaskError(error.message, remedy=error.remedy) from error
