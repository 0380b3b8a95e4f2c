"""The values of a volume, looked at slab by slab: no temporary array of the volume's own size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cryosiam_engine.errors import TomogramError
from cryosiam_engine.preprocessing import slabs


class RunningStatistics:
    """Minimum, maximum, mean and standard deviation of slabs that come one after the other.

    Means and squared deviations are combined pairwise (Chan, Golub & LeVeque, 1983), because a
    plain sum of squares loses all digits where the mean is large beside the deviation.
    """

    def __init__(self) -> None:
        self.minimum = math.inf
        self.maximum = -math.inf
        self.mean = 0.0
        self._count = 0
        self._squares = 0.0

    def add(self, slab: np.ndarray) -> None:
        """Include all voxels of `slab`, of any shape but not empty."""
        count = self._count + slab.size
        mean = float(slab.mean(dtype=np.float64))
        squares = float(slab.var(dtype=np.float64)) * slab.size
        shift = mean - self.mean
        self._squares += squares + shift**2 * self._count * slab.size / count
        self.mean += shift * slab.size / count
        self.minimum = min(self.minimum, float(slab.min()))
        self.maximum = max(self.maximum, float(slab.max()))
        self._count = count

    @property
    def deviation(self) -> float:
        """Standard deviation of all voxels so far (population, not sample)."""
        return math.sqrt(self._squares / self._count)


def check_values(data: np.ndarray, path: str | Path) -> None:
    """Refuse a tomogram that holds NaN or infinite voxels, or the same value everywhere.

    Parameters
    ----------
    data
        Tomogram `(z, y, x)`.
    path
        Its file, named in the error.

    Raises
    ------
    TomogramError
        With the number of voxels that are not finite; or when the volume is constant.
    """
    parts = list(slabs(data.shape))
    if np.issubdtype(data.dtype, np.inexact):
        bad = data.size - sum(int(np.count_nonzero(np.isfinite(data[part]))) for part in parts)
        if bad:
            raise TomogramError(
                f"{path} holds {bad} voxels of {data.size} that are NaN or infinite.",
                remedy="Reconstruct this tomogram again, or replace these voxels by the mean "
                "density, before prediction.",
            )
    low, high = data.min(), data.max()
    if low == high:
        raise TomogramError(
            f"Every voxel of {path} has the same value ({low}).",
            remedy="The reconstruction or the conversion of this tomogram went wrong: make it "
            "again, and look at it in a viewer first.",
        )
