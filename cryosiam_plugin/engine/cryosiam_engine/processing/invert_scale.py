"""Grey values for training: ``processing_invert_scale``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.errors import ConfigurationError, TomogramError
from cryosiam_engine.preprocessing import percentiles, slabs
from cryosiam_engine.processing.files import input_tomograms, output_files, process
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output
from cryosiam_engine.volume import VolumeHeader, check_values, read_volume, write_mrc_like


@dataclass(frozen=True)
class GreyValues:
    """What is done to grey values, in this order.

    Attributes
    ----------
    invert
        Multiply by -1.
    percentages
        Percentiles, of the inverted values, that become 0 and 1, with clipping; None: no scaling.
    """

    invert: bool
    percentages: tuple[float, float] | None

    @classmethod
    def asked(cls, invert: bool, lower: float | None, upper: float | None) -> GreyValues:
        """Understand the options; a percentage that is not given is 0 or 100.

        Raises
        ------
        ConfigurationError
            When nothing would be done, or the percentages make no sense.
        """
        if lower is None and upper is None:
            if not invert:
                raise ConfigurationError(
                    "There is nothing to do.",
                    remedy="Give --invert, or --lower_end_percentage and --upper_end_percentage.",
                )
            return cls(invert, None)
        low, high = 0.0 if lower is None else lower, 100.0 if upper is None else upper
        if not 0 <= low < high <= 100:
            raise ConfigurationError(
                f"The percentages {low:g} and {high:g} make no sense.",
                remedy="Give 0 to 100, the lower one first; 0.1 and 99.9 are usual.",
            )
        return cls(invert, (low, high))


def adjust(volume: NDArray[np.float32], grey: GreyValues) -> None:
    """Invert and scale a volume, in place.

    Raises
    ------
    TomogramError
        When both percentiles are the same value.
    """
    if grey.invert:
        np.negative(volume, out=volume)
    if grey.percentages is None:
        return
    ends = percentiles(volume, *grey.percentages)
    if ends.high <= ends.low:
        raise TomogramError(
            f"Both percentiles are {ends.low:g}: almost all voxels have the same value.",
            remedy="Give percentages that are farther apart, or look at the tomogram.",
        )
    for part in slabs(volume.shape):
        slab = volume[part]
        slab -= np.float32(ends.low)
        slab /= np.float32(ends.high - ends.low)
        np.clip(slab, 0, 1, out=slab)


@dataclass
class Density:
    """A tomogram `(z, y, x)`, float32, and its geometry."""

    stem: str
    data: NDArray[np.float32]
    header: VolumeHeader


class InvertScaleCommand(TomogramCommand[Density, Density]):
    """``processing_invert_scale``.

    Parameters
    ----------
    grey
        What is done.
    files
        Where the results go, by stem.
    """

    name = "processing_invert_scale"

    def __init__(self, grey: GreyValues, files: dict[str, Path]) -> None:
        self._grey = grey
        self._files = files

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The options and the tomogram."""
        inputs = [vars(FileIdentity.of(tomogram.path))] if tomogram.path.exists() else []
        return {"settings": vars(self._grey), "inputs": inputs}

    def load(self, tomogram: Tomogram) -> Density:
        """Read and check the tomogram."""
        volume = read_volume(tomogram.path)
        check_values(volume.data, tomogram.path)
        data = volume.data.astype(np.float32, copy=False)
        return Density(tomogram.stem, data, volume.header)

    def compute(self, loaded: Density, progress: Progress) -> Density:
        """Change the grey values."""
        adjust(loaded.data, self._grey)
        return loaded

    def save(self, result: Density) -> Saved:
        """Write float32 with the tomogram's geometry."""
        path = self._files[result.stem]
        write_mrc_like(path, result.data, result.header)
        identity = FileIdentity.of(path)
        return Saved([Output(identity, "tomogram", result.data.shape, result.header.voxel_size)])


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
    grey = GreyValues.asked(args.invert, args.lower_end_percentage, args.upper_end_percentage)
    source, target = Path(args.input_path), Path(args.output_path)
    tomograms = input_tomograms(source)
    files = output_files(tomograms, source, target)
    folder = files[tomograms[0].stem].parent
    return process(InvertScaleCommand(grey, files), folder, tomograms)
