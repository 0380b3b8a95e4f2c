"""Semantic segmentation: a class for every voxel; with one class, the lamella mask."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.config import SemanticConfig
from cryosiam_engine.dense import DenseCommand, LoadedModel, require_finite
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.hdf5 import StreamedDatasets
from cryosiam_engine.label_files import find_label_files, label_dtype
from cryosiam_engine.label_stitching import LabelStitcher
from cryosiam_engine.lamella import clean_lamella
from cryosiam_engine.masks import load_mask
from cryosiam_engine.preprocessing import normalise, slabs
from cryosiam_engine.run import Saved, Tomogram
from cryosiam_engine.segmentation_files import SegmentationFiles
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.volume import VolumeHeader, check_values, read_volume


@dataclass
class LoadedTomogram:
    """A normalised tomogram (z, y, x) and its mask; the volume is given away to free memory."""

    tomogram: Tomogram
    header: VolumeHeader
    volume: NDArray[np.float32] | None
    mask: NDArray[np.integer] | None
    warnings: list[str]


@dataclass
class Segmented:
    """Labels (z, y, x) of a tomogram, and the file that already holds its probability maps."""

    tomogram: Tomogram
    header: VolumeHeader
    labels: NDArray[np.integer]
    confidence: NDArray[np.int8] | None
    warnings: list[str]
    probability_file: StreamedDatasets | None = None
    open_files: ExitStack = field(default_factory=ExitStack)


class SemanticCommand(DenseCommand[LoadedTomogram, Segmented]):
    """``semantic_predict``.

    Parameters
    ----------
    config
        The validated configuration.
    model
        A semantic network; one output channel makes a binary mask.

    Raises
    ------
    ConfigurationError
        When the lamella clean-up is asked for with a network of several classes.
    """

    name = "semantic_predict"

    def __init__(self, config: SemanticConfig, model: LoadedModel) -> None:
        super().__init__(config, model)
        self._config = config
        self._n_channels = model.window.network.out_channels
        self._faithful = model.window.tiling == "reference"
        if config.postprocessing and self._n_channels > 1:
            raise ConfigurationError(
                f"parameters.network.postprocessing cleans up a lamella mask, but {model.name} "
                f"has {self._n_channels} classes.",
                remedy="Set postprocessing: False; use postprocessing_sizes to drop small objects.",
            )

    def inputs(self, tomogram: Tomogram) -> list[Path]:
        """The tomogram and its mask."""
        files = super().inputs(tomogram)
        if self._config.mask_folder:
            files.append(
                find_label_files(
                    self._config.mask_folder, tomogram.stem, self._config.file_extension
                )[0]
            )
        return files

    def load(self, tomogram: Tomogram) -> LoadedTomogram:
        """Read and check the tomogram and its mask: nothing is computed for a bad mask."""
        raw = read_volume(tomogram.path)
        check_values(raw.data, tomogram.path)
        mask, warnings = None, list[str]()
        if self._config.mask_folder:
            mask, warnings = load_mask(
                self._config.mask_folder,
                tomogram.stem,
                raw.header.shape,
                extension=self._config.file_extension,
                binary=not self._faithful,
            )
        volume = raw.data.astype(np.float32, copy=False)
        normalise(volume, self._config.intensity)
        return LoadedTomogram(tomogram, raw.header, volume, mask, warnings)

    def compute(self, loaded: LoadedTomogram, progress: Progress) -> Segmented:
        """Label every voxel; probability maps go to disk as they are made."""
        volume, loaded.volume = loaded.volume, None
        assert volume is not None  # noqa: S101 - given away once only
        window = self.model.window
        with ExitStack() as files:
            maps = None
            if self._config.save_internal_files:
                maps = files.enter_context(self._probability_file(loaded, volume.shape))
            stitcher = LabelStitcher(
                window,
                volume.shape,
                self._config.threshold,
                mask=loaded.mask,
                lamella=self._config.postprocessing,
                confidence=self._config.save_confidence,
                maps=maps,
            )
            heads = ["logits", "distances"] if maps else ["logits"]
            window.run(volume, heads, stitcher.keep, needed=loaded.mask, progress=progress)
            del volume
            require_finite(stitcher.is_finite, loaded.tomogram.path, self.model.precision)
            labels = stitcher.labels()
            if self._config.postprocessing:
                self._clean_up(labels, stitcher.lamella(), loaded.warnings)
            # From here on `save` closes the file, in its own thread.
            return Segmented(
                loaded.tomogram,
                loaded.header,
                labels,
                stitcher.confidence(),
                loaded.warnings,
                maps,
                files.pop_all(),
            )

    def _probability_file(
        self, loaded: LoadedTomogram, volume_shape: tuple[int, ...]
    ) -> StreamedDatasets:
        shape = (self._n_channels, *volume_shape)
        labels = SegmentationFiles.internal_label_dtype(
            label_dtype(self._n_channels),
            faithful=self._faithful,
            masked=bool(self._config.mask_folder),
            hull_3d=self._config.postprocessing and self._config.hull_3d,
        )
        return StreamedDatasets(
            self.folder / f"{loaded.tomogram.stem}_preds.h5",
            {
                "labels": (volume_shape, labels),
                "probs": (shape, np.dtype(np.float32)),
                "distances": (shape, np.dtype(np.float32)),
            },
        )

    def _clean_up(
        self, labels: NDArray[np.integer], lamella: NDArray[np.float32], warnings: list[str]
    ) -> None:
        _, found = clean_lamella(
            lamella,
            labels,
            threshold=self._config.threshold,
            hull_3d=self._config.hull_3d,
            faithful=self._faithful,
        )
        if not found:
            warnings.append(
                f"NO LAMELLA FOUND: after smoothing nothing exceeds the threshold "
                f"{self._config.threshold}; the mask is empty. Try a lower threshold."
            )

    def save(self, result: Segmented) -> Saved:
        """Write the labels in the formats asked for, and close the probability maps."""
        counts = _voxels_per_class(result.labels, self._n_channels)
        if not any(counts.values()) and not self._config.postprocessing:
            result.warnings.append(
                "ALL VOXELS ARE BACKGROUND: no class was recognised. Check that the input is the "
                "denoised tomogram (protein bright), the mask, and the threshold."
            )
        files = SegmentationFiles(self._config, result.tomogram.stem, result.header)
        with result.open_files as open_files:
            outputs = files.write(result.labels, result.probability_file, open_files)
        if result.confidence is not None:
            outputs.append(files.write_confidence(result.confidence))
        return Saved(outputs, {"voxels_per_class": counts}, result.warnings)


def _voxels_per_class(labels: NDArray[np.integer], n_channels: int) -> dict[str, int]:
    counts = np.zeros(max(n_channels, 2), np.int64)
    for part in slabs(labels.shape):
        counts += np.bincount(labels[part].reshape(-1), minlength=counts.size)[: counts.size]
    return {str(index): int(count) for index, count in enumerate(counts) if index}
