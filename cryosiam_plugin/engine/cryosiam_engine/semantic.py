"""Semantic segmentation: a class for every voxel; with one class, the lamella mask."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryosiam_engine.config import SemanticConfig
from cryosiam_engine.dense import DenseCommand, LoadedModel, require_finite
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.hdf5 import StreamedDatasets
from cryosiam_engine.label_files import find_label_files, label_dtype
from cryosiam_engine.lamella import clean_lamella
from cryosiam_engine.masks import load_mask
from cryosiam_engine.preprocessing import normalise, slabs
from cryosiam_engine.run import Saved, Tomogram
from cryosiam_engine.segmentation_files import SegmentationFiles
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.tiling import Region
from cryosiam_engine.volume import VolumeHeader, check_values, read_volume

#: Class probabilities of this many floats are held at once while labels are decided.
PROBABILITY_FLOATS = 16_000_000


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
        result = Segmented(
            loaded.tomogram,
            loaded.header,
            np.zeros(volume.shape, label_dtype(self._n_channels)),
            loaded.warnings,
        )
        with result.open_files as files:
            if self._config.save_internal_files:
                result.probability_file = files.enter_context(self._probability_file(result))
            lamella = np.zeros(volume.shape, np.float32) if self._config.postprocessing else None
            stitch = _Stitcher(self, result, loaded.mask, lamella)
            heads = ["logits", "distances"] if self._config.save_internal_files else ["logits"]
            self.model.window.run(volume, heads, stitch.keep, needed=loaded.mask, progress=progress)
            del volume
            if lamella is not None:
                self._clean_up(result, lamella)
            # From here on `save` closes the file, in its own thread.
            result.open_files = files.pop_all()
        return result

    def _probability_file(self, result: Segmented) -> StreamedDatasets:
        shape = (self._n_channels, *result.labels.shape)
        labels = SegmentationFiles.internal_label_dtype(
            result.labels.dtype,
            faithful=self._faithful,
            masked=bool(self._config.mask_folder),
            hull_3d=self._config.postprocessing and self._config.hull_3d,
        )
        return StreamedDatasets(
            self.folder / f"{result.tomogram.stem}_preds.h5",
            {
                "labels": (result.labels.shape, labels),
                "probs": (shape, np.dtype(np.float32)),
                "distances": (shape, np.dtype(np.float32)),
            },
        )

    def _clean_up(self, result: Segmented, lamella: NDArray[np.float32]) -> None:
        result.labels, found = clean_lamella(
            lamella,
            result.labels,
            threshold=self._config.threshold,
            hull_3d=self._config.hull_3d,
            faithful=self._faithful,
        )
        if not found:
            result.warnings.append(
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
        return Saved(outputs, {"voxels_per_class": counts}, result.warnings)


class _Stitcher:
    """Turns the logits of tiles into labels and puts them where they belong."""

    def __init__(
        self,
        command: SemanticCommand,
        result: Segmented,
        mask: NDArray[np.integer] | None,
        lamella: NDArray[np.float32] | None,
    ) -> None:
        self._threshold = command._config.threshold
        self._precision = command.model.precision
        self._result = result
        self._mask = mask
        self._lamella = lamella

    def keep(self, region: Region, outputs: Mapping[str, Tensor]) -> None:
        """Take one tile's logits and distances, each (classes, z, y, x)."""
        logits = outputs["logits"]
        require_finite(logits, self._result.tomogram.path, self._precision)
        mask = None if self._mask is None else self._mask[region]
        labels = classify(logits, self._threshold).cpu().numpy()
        self._result.labels[region] = labels if mask is None else labels * mask.astype(np.int32)
        if self._lamella is not None:
            self._lamella[region] = _masked(probabilities(logits)[0], mask)
        if self._result.probability_file:
            where = (slice(None), *region)
            write = self._result.probability_file.write
            write("probs", where, _masked(probabilities(logits), mask))
            write("distances", where, _masked(outputs["distances"], mask))


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities of logits (classes, z, y, x): sigmoid of one class, softmax of more."""
    return logits.sigmoid() if logits.shape[0] == 1 else logits.softmax(0)


def classify(logits: Tensor, threshold: float) -> Tensor:
    """The label of every voxel.

    One class: 1 where its probability exceeds the threshold. Several: the most probable class
    where its probability reaches the threshold, else 0. Done section by section, so that the
    probabilities of many classes never exist for a whole tile.

    Parameters
    ----------
    logits
        (classes, z, y, x).
    threshold
        Probability in [0, 1].

    Returns
    -------
    Tensor
        (z, y, x), uint8 for up to 256 classes, else int32, on the device of `logits`.
    """
    n_classes, depth = logits.shape[:2]
    if n_classes == 1:
        return (logits[0].sigmoid() > threshold).to(torch.uint8)
    dtype = torch.uint8 if n_classes <= 256 else torch.int32
    labels = torch.empty(logits.shape[1:], dtype=dtype, device=logits.device)
    step = max(1, PROBABILITY_FLOATS // (n_classes * logits.shape[2] * logits.shape[3]))
    for start in range(0, depth, step):
        sections = slice(start, start + step)
        best, index = logits[:, sections].softmax(0).max(0)
        labels[sections] = torch.where(best >= threshold, index, 0).to(dtype)
    return labels


def _masked(values: Tensor, mask: NDArray[np.integer] | None) -> NDArray[np.float32]:
    array = values.cpu().numpy()
    return array if mask is None else array * mask.astype(np.float32)


def _voxels_per_class(labels: NDArray[np.integer], n_channels: int) -> dict[str, int]:
    counts = np.zeros(max(n_channels, 2), np.int64)
    for part in slabs(labels.shape):
        counts += np.bincount(labels[part].reshape(-1), minlength=counts.size)[: counts.size]
    return {str(index): int(count) for index, count in enumerate(counts) if index}
