"""Patches of tomograms and labels on the disk: ``semantic_train_create_patches``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.config.tomogram_list import written_extension
from cryosiam_engine.config.training import PatchesConfig
from cryosiam_engine.embeddings.patches import Box
from cryosiam_engine.errors import MaskError
from cryosiam_engine.label_files import read_labels
from cryosiam_engine.run import RunReport, Saved, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output, status_folder
from cryosiam_engine.training.distance_maps import distance_file, opened_distance_maps
from cryosiam_engine.training.ground_truth import training_tomograms
from cryosiam_engine.training.patch_grid import (
    DISTANCES,
    IMAGES,
    LABELS,
    NOISY,
    patch_grid,
    patches_of,
)
from cryosiam_engine.training.patch_writer import PatchSet, PatchWriter
from cryosiam_engine.volume import VolumeHeader, read_header, read_volume


@dataclass
class PatchInputs:
    """The labels `(z, y, x)` of one tomogram; the volumes are read later, one at a time."""

    tomogram: Tomogram
    labels: NDArray[np.integer]
    header: VolumeHeader


class PatchesCommand(TomogramCommand[PatchInputs, PatchSet]):
    """``semantic_train_create_patches``.

    Patches are float32 with the tomogram's voxel size, and know by their origin where they were.

    Parameters
    ----------
    config
        The validated configuration.
    """

    name = PatchesConfig.command

    def __init__(self, config: PatchesConfig) -> None:
        self._config = config
        self._folder = config.prediction_folder
        self._extension = written_extension(config.file_extension)

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """How patches are cut, and every input file."""
        files = self._inputs(tomogram)
        return {
            # Which tomograms there are, and their grey values, do not change the patches.
            "settings": self._config.model_dump(
                include={
                    "patches": {"patch_size", "patch_overlap", "remove_only_background"},
                    "distance_prediction": True,
                }
            ),
            "inputs": [vars(FileIdentity.of(path)) for path in files if path.exists()],
        }

    def _inputs(self, tomogram: Tomogram) -> list[Path]:
        config = self._config
        files = [tomogram.path, config.data_folder / tomogram.path.name]
        if config.noisy_data_folder:
            files.append(config.noisy_data_folder / tomogram.path.name)
        if config.distance_prediction and config.temp_dir:
            files.append(distance_file(config.temp_dir, tomogram.stem))
        return files

    def load(self, tomogram: Tomogram) -> PatchInputs:
        """Read the labels."""
        labels = read_labels(tomogram.path)
        if labels.min() < 0:
            raise MaskError(
                f"{tomogram.path} has the label {labels.min()}.", remedy="Labels count from 0 on."
            )
        return PatchInputs(tomogram, labels, read_header(tomogram.path))

    def compute(self, loaded: PatchInputs, progress: Progress) -> PatchSet:
        """Cut and write the patches; those of an earlier run go, and all of them on failure."""
        stem = loaded.tomogram.stem
        self._remove(stem)
        try:
            return self._cut(loaded, progress)
        except BaseException:
            self._remove(stem)
            raise

    def _remove(self, stem: str) -> None:
        for name in (IMAGES, LABELS, NOISY):
            for path in patches_of(self._folder / name, stem, self._extension):
                path.unlink()
        for path in patches_of(self._folder / DISTANCES, stem, ".npz"):
            path.unlink()

    def _cut(self, loaded: PatchInputs, progress: Progress) -> PatchSet:
        config, stem = self._config, loaded.tomogram.stem
        shape, header = loaded.labels.shape, loaded.header
        settings = config.patches
        grid = patch_grid(shape, settings.patch_size, settings.patch_overlap)
        boxes = [
            box
            for box in grid
            if not settings.remove_only_background or loaded.labels[box.slices].any()
        ]
        kinds = 2 + bool(config.noisy_data_folder) + config.distance_prediction
        patches = PatchSet()
        writer = PatchWriter(self._folder, stem, patches, progress, kinds * len(boxes))
        extension = self._extension
        writer.write_volume(LABELS, loaded.labels, header, boxes, extension)
        patches.summary = _summary(loaded.labels, grid, boxes)
        loaded.labels = np.zeros(0, np.uint8)  # room for the tomogram
        sources = {IMAGES: config.data_folder, NOISY: config.noisy_data_folder}
        for name, folder in sources.items():
            if folder is not None:
                volume = read_volume(folder / loaded.tomogram.path.name)
                _check_shape(volume.path, volume.data.shape, shape)
                writer.write_volume(name, volume.data, volume.header, boxes, extension)
                patches.warnings += _size_warning(volume.path, volume.header, header)
                del volume
        if config.distance_prediction and config.temp_dir:
            path = distance_file(config.temp_dir, stem)
            with opened_distance_maps(path) as maps:
                _check_shape(path, maps.shape[1:], shape)
                writer.write_distances(maps, boxes)
        if not boxes:
            patches.warnings.append("NO PATCHES: all labels are background.")
        return patches

    def save(self, result: PatchSet) -> Saved:
        """Say what was written."""
        outputs = [Output(FileIdentity.of(path), kind, shape) for path, kind, shape in result.files]
        return Saved(outputs, result.summary, result.warnings)


def _summary(
    labels: NDArray[np.integer], grid: Sequence[Box], boxes: Sequence[Box]
) -> dict[str, Any]:
    voxels = np.zeros(int(labels.max()) + 1, np.int64)
    for box in boxes:
        voxels += np.bincount(labels[box.slices].ravel(), minlength=len(voxels))
    present = np.flatnonzero(voxels).tolist()
    return {
        "patches": len(boxes),
        "only_background": len(grid) - len(boxes),
        "voxels_per_label": {str(label): int(voxels[label]) for label in present},
    }


def _check_shape(path: Path, shape: Sequence[int], wanted: Sequence[int]) -> None:
    if tuple(shape) != tuple(wanted):
        raise MaskError(
            f"{path} has the size {tuple(shape)} and its labels {tuple(wanted)} (z, y, x).",
            remedy="Labels, tomogram and distance maps of one name must belong together: make "
            "them again from the same tomogram.",
        )


def _size_warning(path: Path, header: VolumeHeader, labels: VolumeHeader) -> list[str]:
    """Voxel sizes that differ are a sign of files that do not belong together."""
    pairs = zip(header.voxel_size, labels.voxel_size, strict=True)
    if all(not a or not b or abs(a / b - 1) < 0.01 for a, b in pairs):
        return []
    return [
        f"{path} has voxels of {header.voxel_size[0]:g} Å, its labels of "
        f"{labels.voxel_size[0]:g} Å."
    ]


def run(config: PatchesConfig, args: argparse.Namespace) -> RunReport:
    """Run the command; `args` as for :func:`cryosiam_engine.training.ground_truth.run`.

    Raises
    ------
    EngineError
        When the run cannot begin.
    """
    config.check_paths()
    tomograms = training_tomograms(config, args.filename)
    command = PatchesCommand(config)
    folder = status_folder(config.prediction_folder, command.name)
    return TomogramLoop(command, folder).run(tomograms)
