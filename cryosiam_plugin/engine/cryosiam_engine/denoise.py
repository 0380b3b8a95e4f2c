"""Denoising: a raw tomogram in, a clean one with bright protein out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryosiam_engine.config import DenoiseConfig, written_extension
from cryosiam_engine.dense import DenseCommand, LoadedModel, require_finite
from cryosiam_engine.hdf5 import StreamedDatasets
from cryosiam_engine.preprocessing import prepare_for_denoising, slabs
from cryosiam_engine.run import Saved, Tomogram
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output
from cryosiam_engine.tiling import Region
from cryosiam_engine.volume import VolumeHeader, check_values, read_volume, write_mrc_like


@dataclass
class LoadedTomogram:
    """A preprocessed tomogram (z, y, x); the volume is given away to free its memory."""

    tomogram: Tomogram
    header: VolumeHeader
    volume: NDArray[np.float32] | None


@dataclass
class Denoised:
    """A denoised tomogram: channels (c, z, y, x), of which the first is the tomogram."""

    tomogram: Tomogram
    header: VolumeHeader
    channels: NDArray[np.float32]
    warnings: list[str]


class DenoiseCommand(DenseCommand[LoadedTomogram, Denoised]):
    """``denoise_predict``.

    Parameters
    ----------
    config
        The validated configuration.
    model
        A denoising network.
    """

    name = "denoise_predict"

    def __init__(self, config: DenoiseConfig, model: LoadedModel) -> None:
        super().__init__(config, model)
        self._config = config

    def load(self, tomogram: Tomogram) -> LoadedTomogram:
        """Read, check, invert, stretch and normalise."""
        raw = read_volume(tomogram.path)
        check_values(raw.data, tomogram.path)
        volume = raw.data.astype(np.float32, copy=False)
        prepare_for_denoising(volume, self._config.intensity)
        return LoadedTomogram(tomogram, raw.header, volume)

    def compute(self, loaded: LoadedTomogram, progress: Progress) -> Denoised:
        """Run the network over the tomogram and rescale its output if asked to."""
        volume, loaded.volume = loaded.volume, None
        assert volume is not None  # noqa: S101 - given away once only
        # Other channels than the first are only ever read from the raw predictions.
        n_channels = self.model.window.network.out_channels
        kept_channels = n_channels if self._config.save_raw_predictions else 1
        window = self.model.window
        canvas = window.canvas((kept_channels, *volume.shape), torch.float32)
        extremes: list[Tensor] = []  # of each slab, left on the device

        def keep(region: Region, outputs: Mapping[str, Tensor]) -> None:
            denoised = outputs["denoised"]
            extremes.append(torch.stack(denoised.aminmax()))
            canvas[(slice(None), *region)] = denoised[:kept_channels]

        window.run(volume, ["denoised"], keep, progress=progress)
        del volume
        seen = torch.stack(extremes)
        require_finite(seen.isfinite().all(), loaded.tomogram.path, self.model.precision)
        channels = canvas.cpu().numpy()
        low, high = float(seen[:, 0].min()), float(seen[:, 1].max())
        warnings = self._rescale(channels, low, high) if self._config.scale_prediction else []
        return Denoised(loaded.tomogram, loaded.header, channels, warnings)

    @staticmethod
    def _rescale(channels: NDArray[np.float32], low: float, high: float) -> list[str]:
        """Map [low, high] to [0, 1] in place; a constant prediction becomes 0."""
        warnings = []
        if high == low:
            warnings.append("the denoised tomogram is constant: nothing was recognised in it.")
        for channel in channels:
            for part in slabs(channel.shape):
                slab = channel[part]
                slab -= np.float32(low)
                if high > low:
                    slab /= np.float32(high) - np.float32(low)
        return warnings

    def save(self, result: Denoised) -> Saved:
        """Write the tomogram as MRC and, if asked to, all channels as HDF5."""
        header, stem = result.header, result.tomogram.stem
        outputs = []
        if self._config.save_raw_predictions:
            raw = self.folder / f"{stem}_preds.h5"
            write_channels(raw, "preds", result.channels)
            outputs.append(
                Output(FileIdentity.of(raw), "raw", result.channels.shape, header.voxel_size)
            )
        path = self.folder / f"{stem}{written_extension(self._config.file_extension)}"
        denoised = result.channels[0]
        write_mrc_like(path, denoised, header)
        outputs.insert(
            0, Output(FileIdentity.of(path), "tomogram", denoised.shape, header.voxel_size)
        )
        return Saved(outputs, warnings=result.warnings)


def write_channels(path: Path, name: str, channels: NDArray[np.float32]) -> None:
    """Write an array (c, z, y, x) as one HDF5 dataset, atomically."""
    with StreamedDatasets(path, {name: (channels.shape, channels.dtype)}) as file:
        for index, channel in enumerate(channels):
            file.write(name, (slice(index, index + 1), slice(None)), channel[None])
