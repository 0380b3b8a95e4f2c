"""The files of a segmentation: HDF5 as the original writes it, MRC for everything else."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.config import SemanticConfig, written_extension
from cryosiam_engine.config.tomogram_list import CONFIDENCE_ENDING
from cryosiam_engine.hdf5 import StreamedDatasets, write_datasets
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.status import FileIdentity, Output
from cryosiam_engine.volume import VolumeHeader, write_mrc_like


def confidence_file(folder: Path, stem: str) -> Path:
    """The map of how probable (%) each voxel's class is; written with ``save_confidence``."""
    return folder / f"{stem}{CONFIDENCE_ENDING}.mrc"


class SegmentationFiles:
    """Writes the labels of one tomogram in every format that the configuration asks for.

    Parameters
    ----------
    config
        ``output_format`` (h5, mrc or both), ``save_internal_files`` and
        ``save_original_file_extension`` decide.
    stem
        The tomogram's stem.
    header
        The tomogram's header: its voxel size and origin go into every MRC.
    """

    def __init__(self, config: SemanticConfig, stem: str, header: VolumeHeader) -> None:
        self._config = config
        self._header = header
        self.hdf5 = config.prediction_folder / f"{stem}_preds.h5"
        original = written_extension(config.file_extension)
        suffix = original if config.save_original_file_extension else "_preds.mrc"
        self.mrc = config.prediction_folder / f"{stem}{suffix}"
        self.confidence = confidence_file(config.prediction_folder, stem)

    @staticmethod
    def internal_label_dtype(
        dtype: np.dtype, *, faithful: bool, masked: bool, hull_3d: bool
    ) -> np.dtype:
        """The type of ``labels`` beside probability maps.

        The original stores whatever its arithmetic gave: int64 after the 3D hull, int16 after a
        mask. Only `faithful` keeps that; otherwise labels are as small as they can be.
        """
        if faithful and hull_3d:
            return np.dtype(np.int64)
        if faithful and masked:
            return np.dtype(np.int16)
        return dtype

    def write(
        self,
        labels: NDArray[np.integer],
        probability_file: StreamedDatasets | None,
        open_files: ExitStack,
    ) -> list[Output]:
        """Write the labels (z, y, x) and finish the probability maps.

        Parameters
        ----------
        labels
            The labels.
        probability_file
            The open file with the maps, which the labels join; None without maps.
        open_files
            Closing it gives the probability file its final name.
        """
        outputs = []
        if probability_file:
            for part in slabs(labels.shape):
                probability_file.write("labels", (part,), labels[part])
            open_files.close()
            outputs.append(self._output(self.hdf5, "labels", labels))
        elif self._wants_hdf5():
            write_datasets(self.hdf5, {"labels": labels})
            outputs.append(self._output(self.hdf5, "labels", labels))
        if self._wants_mrc():
            write_mrc_like(self.mrc, labels, self._header)
            outputs.append(self._output(self.mrc, "labels", labels))
        return outputs

    def write_confidence(self, confidence: NDArray[np.int8]) -> Output:
        """Write how probable (%) each voxel's class is, (z, y, x), as MRC."""
        write_mrc_like(self.confidence, confidence, self._header)
        return self._output(self.confidence, "confidence", confidence)

    def _wants_hdf5(self) -> bool:
        if self._config.save_original_file_extension:
            return self._config.output_format == "both"
        return self._config.output_format in ("h5", "both")

    def _wants_mrc(self) -> bool:
        return self._config.save_original_file_extension or self._config.output_format != "h5"

    def _output(self, path: Path, kind: str, labels: NDArray[np.integer]) -> Output:
        return Output(FileIdentity.of(path), kind, labels.shape, self._header.voxel_size)
