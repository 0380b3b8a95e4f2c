"""Tomograms at another voxel size: ``processing_match_pixel_size``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cryosiam_engine.device.host import cpu_threads, free_host_memory
from cryosiam_engine.errors import ConfigurationError, TomogramError
from cryosiam_engine.processing.files import input_tomograms, output_files, process
from cryosiam_engine.processing.resampling import output_shape, peak_bytes, resample
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output
from cryosiam_engine.volume import VolumeHeader, check_values, read_header, read_volume, write_mrc

#: A whole number of voxels cannot always have the size asked for; beyond this it is said.
_NOTABLE = 0.005


@dataclass(frozen=True)
class PixelSizes:
    """Voxel sizes in Å: the one wanted, and that of the input where its header is wrong."""

    wanted: float
    given: float | None
    smooth: bool

    def __post_init__(self) -> None:
        for size in (self.wanted, self.given):
            if size is not None and not 0 < size < np.inf:
                raise ConfigurationError(
                    f"A voxel size of {size:g} Å is impossible.", remedy="Give a number above 0."
                )

    def of_input(self, header: VolumeHeader, path: Path) -> tuple[float, float, float]:
        """Voxel size (x, y, z) of a tomogram.

        Raises
        ------
        TomogramError
            When nobody says it.
        """
        if self.given is not None:
            return self.given, self.given, self.given
        if not all(header.voxel_size):
            raise TomogramError(
                f"{path} has no voxel size in its header.", remedy="Give --input_pixel_size."
            )
        return header.voxel_size


@dataclass(frozen=True)
class Plan:
    """A tomogram that is to be resampled; `voxel_size` is (x, y, z)."""

    tomogram: Tomogram
    header: VolumeHeader
    voxel_size: tuple[float, float, float]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Resampled:
    """A resampled tomogram `(z, y, x)`."""

    plan: Plan
    data: NDArray[np.float32]


class PixelSizeCommand(TomogramCommand[Plan, Resampled]):
    """``processing_match_pixel_size``.

    Parameters
    ----------
    sizes
        Voxel sizes.
    files
        Where the results go, by stem.
    """

    name = "processing_match_pixel_size"

    def __init__(self, sizes: PixelSizes, files: dict[str, Path]) -> None:
        self._sizes = sizes
        self._files = files

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The options and the tomogram."""
        inputs = [vars(FileIdentity.of(tomogram.path))] if tomogram.path.exists() else []
        return {"settings": vars(self._sizes), "inputs": inputs}

    def load(self, tomogram: Tomogram) -> Plan:
        """Look at the header; the voxels are read later, when there is room for them."""
        header = read_header(tomogram.path)
        size = self._sizes.of_input(header, tomogram.path)
        shape = output_shape(header.shape, size[::-1], self._sizes.wanted)
        needed, free = peak_bytes(header.shape, 4, shape, self._sizes.smooth), free_host_memory()
        if needed > free:
            raise ConfigurationError(
                f"{tomogram.path} would become {' x '.join(map(str, shape))} voxels (z, y, x); "
                f"that needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free.",
                remedy="Check the voxel sizes, or use a larger computer.",
            )
        return Plan(tomogram, header, size, shape)

    def compute(self, loaded: Plan, progress: Progress) -> Resampled:
        """Read the tomogram and resample it."""
        volume = read_volume(loaded.tomogram.path).data
        check_values(volume, loaded.tomogram.path)
        held: list[NDArray[np.generic]] = [volume]
        del volume
        with scipy.fft.set_workers(cpu_threads()):
            return Resampled(loaded, resample(held, loaded.shape, smooth=self._sizes.smooth))

    def save(self, result: Resampled) -> Saved:
        """Write the tomogram with the voxel size that it has, so that the box is as long."""
        plan = result.plan
        ratios = [old / new for old, new in zip(plan.header.shape, plan.shape, strict=True)][::-1]
        x, y, z = (size * r for size, r in zip(plan.voxel_size, ratios, strict=True))
        start_x, start_y, start_z = (
            round(start / r) for start, r in zip(plan.header.nstart, ratios, strict=True)
        )
        path = self._files[plan.tomogram.stem]
        write_mrc(
            path,
            result.data,
            voxel_size=(x, y, z),
            origin=plan.header.origin,
            nstart=(start_x, start_y, start_z),
        )
        outputs = [Output(FileIdentity.of(path), "tomogram", plan.shape, (x, y, z))]
        return Saved(outputs, warnings=self._warnings((x, y, z)))

    def _warnings(self, sizes: tuple[float, float, float]) -> list[str]:
        if max(abs(size / self._sizes.wanted - 1) for size in sizes) <= _NOTABLE:
            return []
        shown = " x ".join(f"{size:.4g}" for size in sizes)
        return [f"Whole voxels are {shown} Å long (x, y, z), not exactly {self._sizes.wanted:g} Å."]


def run(args: argparse.Namespace) -> int:
    """Run the command.

    Returns
    -------
    int
        0: all done; 1: some tomograms failed.

    Raises
    ------
    ConfigurationError
        When there are no tomograms, or an option makes no sense.
    """
    sizes = PixelSizes(args.pixel_size, args.input_pixel_size, args.smooth)
    source, target = Path(args.input_path), Path(args.output_path)
    tomograms = input_tomograms(source)
    files = output_files(tomograms, source, target)
    folder = files[tomograms[0].stem].parent
    return process(PixelSizeCommand(sizes, files), folder, tomograms)
