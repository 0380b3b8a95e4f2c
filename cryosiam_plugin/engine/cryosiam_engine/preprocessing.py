"""Grey values as the networks expect them: inverted, clipped and normalised, in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

#: Slabs of about this many voxels keep temporaries small beside a tomogram.
SLAB_VOXELS = 8_000_000

#: The denoiser clips to these percentiles of the inverted tomogram.
DENOISING_PERCENTILES = (0.1, 99.9)


class Intensity(Protocol):
    """The grey-value settings ``parameters.data`` of a configuration."""

    @property
    def min(self) -> float:
        """Grey value that becomes 0."""

    @property
    def max(self) -> float:
        """Grey value that becomes 1."""

    @property
    def mean(self) -> float | None:
        """Subtracted after scaling; None means the tomogram's own mean."""

    @property
    def std(self) -> float | None:
        """Divided by after scaling; None means the tomogram's own standard deviation."""


@dataclass(frozen=True)
class Percentiles:
    """Two grey values between which a tomogram is stretched to [0, 1]."""

    low: float
    high: float


def slabs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Consecutive ranges of the first axis, each of about :data:`SLAB_VOXELS` voxels."""
    per_section = max(1, int(np.prod(shape[1:])))
    step = max(1, SLAB_VOXELS // per_section)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def prepare_for_denoising(volume: NDArray[np.float32], intensity: Intensity) -> None:
    """Invert, stretch between the 0.1 and 99.9 percentiles, normalise. In place.

    Raw reconstructions have protein dark; everything after the denoiser wants it bright.

    Parameters
    ----------
    volume
        Tomogram (z, y, x); overwritten.
    intensity
        The configuration's ``parameters.data``.
    """
    np.negative(volume, out=volume)
    bounds = percentiles(volume, *DENOISING_PERCENTILES)
    for part in slabs(volume.shape):
        slab = volume[part]
        slab -= np.float32(bounds.low)
        slab /= np.float32(bounds.high) - np.float32(bounds.low)
        np.clip(slab, 0, 1, out=slab)
    normalise(volume, intensity)


def normalise(volume: NDArray[np.float32], intensity: Intensity) -> None:
    """Scale [min, max] to [0, 1] with clipping, then subtract mean and divide by std. In place.

    With max equal to min nothing is divided or clipped, only min subtracted; a std of 0 counts
    as 1; a mean or std of None is the scaled tomogram's own.

    Parameters
    ----------
    volume
        Tomogram (z, y, x); overwritten.
    intensity
        The configuration's ``parameters.data``.
    """
    span = np.float32(intensity.max) - np.float32(intensity.min)
    for part in slabs(volume.shape):
        slab = volume[part]
        slab -= np.float32(intensity.min)
        if span != 0:
            slab /= span
            np.clip(slab, 0, 1, out=slab)
    mean = float(volume.mean(dtype=np.float64)) if intensity.mean is None else intensity.mean
    std = _standard_deviation(volume) if intensity.std is None else intensity.std
    for part in slabs(volume.shape):
        slab = volume[part]
        slab -= np.float32(mean)
        slab /= np.float32(std or 1)


def _standard_deviation(volume: NDArray[np.float32]) -> float:
    mean = volume.mean(dtype=np.float64)
    squares = sum(
        float(np.square(volume[part] - mean, dtype=np.float64).sum())
        for part in slabs(volume.shape)
    )
    return float(np.sqrt(squares / volume.size))


def percentiles(volume: NDArray[np.float32], low: float, high: float) -> Percentiles:
    """Two percentiles with linear interpolation between order statistics, without a sorted copy.

    Only the tails beyond the two percentiles are ever held, so the memory is a small fraction
    of the tomogram for the 0.1 and 99.9 percentiles.

    Parameters
    ----------
    volume
        Any shape, finite values.
    low, high
        Percentiles in [0, 100], low below 50 and high above.

    Returns
    -------
    Percentiles
        Equal to ``numpy.percentile(volume, [low, high])``.
    """
    last = volume.size - 1
    below = low / 100 * last
    above = (100 - high) / 100 * last
    lowest = np.sort(_smallest(volume, int(below) + 2, sign=1))
    highest = np.sort(_smallest(volume, int(above) + 2, sign=-1))
    return Percentiles(low=_interpolate(lowest, below), high=-_interpolate(highest, above))


def _smallest(volume: NDArray[np.float32], count: int, *, sign: int) -> NDArray[np.float32]:
    """The `count` smallest values of ``sign * volume``, unordered."""
    count = min(count, volume.size)
    kept = np.empty(0, np.float32)
    flat = volume.reshape(-1)
    for start in range(0, flat.size, SLAB_VOXELS):
        slab = flat[start : start + SLAB_VOXELS] * np.float32(sign)
        if kept.size == count:
            slab = slab[slab < kept.max()]
        kept = np.concatenate([kept, slab])
        if kept.size > count:
            kept = np.partition(kept, count - 1)[:count]
    return kept


def _interpolate(ordered: NDArray[np.float32], position: float) -> float:
    index = min(int(position), ordered.size - 1)
    following = min(index + 1, ordered.size - 1)
    fraction = position - int(position)
    return float(ordered[index] + (ordered[following] - ordered[index]) * np.float32(fraction))
