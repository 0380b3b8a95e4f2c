"""Grey levels: which values are black and which white."""

from __future__ import annotations

import numpy as np

from cryosiam_plugin.viewers.volumes import Volume

#: Percentiles shown black and white at first: a few hot voxels must not decide.
DEFAULT_PERCENTILES = (1.0, 99.0)

_SAMPLED_SLICES = 9
_SAMPLED_ROWS = 256


class Contrast:
    """Turns percentiles of a volume into limits of grey.

    The percentiles, not the limits, are what the user sets: the same ones suit a raw tomogram and
    its denoised twin, whose values differ.

    Parameters
    ----------
    volume
        Looked at in a few slices of its middle half, where the sample is.
    """

    def __init__(self, volume: Volume) -> None:
        self._sample = _sample(volume)

    def limits(self, percentiles: tuple[float, float]) -> tuple[float, float]:
        """The values shown black and white at two percentiles (0 to 100)."""
        low, high = np.percentile(self._sample, percentiles)
        if low == high:  # e.g. an empty volume: anything that divides
            return float(low), float(low) + 1.0
        return float(low), float(high)


def _sample(volume: Volume) -> np.ndarray:
    depth, rows, columns = volume.shape
    first, last = depth // 4, max(depth - 1 - depth // 4, depth // 4)
    indices = np.unique(np.linspace(first, last, _SAMPLED_SLICES).astype(int))
    row_step, column_step = (max(n // _SAMPLED_ROWS, 1) for n in (rows, columns))
    parts = [volume.data[int(z), ::row_step, ::column_step] for z in indices]
    values = np.asarray(parts, dtype=np.float32)
    finite = values[np.isfinite(values)]
    return finite if finite.size else np.zeros(1, np.float32)


def to_grey(
    values: np.ndarray, limits: tuple[float, float], *, inverted: bool = False
) -> np.ndarray:
    """Grey levels 0 to 255 of a slice `(row, column)`.

    Parameters
    ----------
    values
        Of any type; not-a-number becomes black.
    limits
        Values of level 0 and 255; the order may be reversed by `inverted` only.
    inverted
        Show high values dark.
    """
    low, high = limits
    levels = (np.asarray(values, dtype=np.float32) - low) * (255.0 / (high - low))
    levels = np.nan_to_num(np.clip(levels, 0.0, 255.0), nan=0.0).astype(np.uint8)
    return 255 - levels if inverted else levels
