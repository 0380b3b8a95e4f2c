"""The distance map whose cores are the instances: predicted, Euclidean, or the mean of both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.separation.foreground import SMOOTHING_REACH, smoothed
from cryosiam_engine.separation.regions import grown, inside, occupied, shape_of, whole
from cryosiam_engine.tiling import Region

#: Euclidean distances (voxels) end here: larger ones count as this.
LONGEST = 5

_ROOTS = np.sqrt(np.arange(LONGEST**2 + 1, dtype=np.float64))


class Heights:
    """Computes the distance to the surface of the particle in any box of a tomogram.

    What it gives for a box is, bit by bit, that part of the map of the whole tomogram, which never
    exists: neither value depends on anything farther than 7 voxels away.

    Parameters
    ----------
    mask
        1 in the foreground, else 0; `(z, y, x)`.
    distances
        Predicted distance (voxels), float32 `(z, y, x)`; not needed for `distance_type` 2.
    distance_type
        0 predicted, 1 mean of predicted and Euclidean, 2 Euclidean.

    Attributes
    ----------
    dtype
        Of the distances: float32 for `distance_type` 0, else float64.
    """

    def __init__(
        self, mask: NDArray[np.uint8], distances: NDArray[np.float32] | None, distance_type: int
    ) -> None:
        self._mask = mask
        self._distances = None if distance_type == 2 else distances
        self._euclidean = distance_type != 0
        self._limits = whole(mask.shape)
        self.dtype = np.dtype(np.float64 if self._euclidean else np.float32)

    def __call__(self, box: Region) -> NDArray[Any]:
        """Give the distances (voxels) in a box, 0 far from the foreground; a new array."""
        heights = np.zeros(shape_of(box), self.dtype)
        seen = occupied(self._mask, grown(box, SMOOTHING_REACH, self._limits))
        if seen is None:
            return heights
        core = grown(seen, SMOOTHING_REACH, box)
        part = heights[inside(core, box)]
        if self._distances is not None:
            part += self._predicted(self._distances, core)
        if self._euclidean:
            part += self._smoothed_euclidean(core)
        if self._euclidean and self._distances is not None:
            part /= 2
        return heights

    def _predicted(self, distances: NDArray[np.float32], box: Region) -> NDArray[np.float32]:
        predicted = smoothed(distances, box)
        predicted[(predicted < 0) | (self._mask[box] == 0)] = 0
        return predicted

    def _smoothed_euclidean(self, box: Region) -> NDArray[np.float64]:
        around = grown(box, SMOOTHING_REACH, self._limits)
        seen = grown(around, LONGEST, self._limits)
        squares = squared_distances(self._mask[seen])[inside(around, seen)]
        return smoothed(_ROOTS[squares], inside(box, around))


def squared_distances(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the squared Euclidean distance to the nearest voxel outside the mask, at most 25.

    The border of the volume is not outside. A distance of up to 5 voxels is found by looking no
    farther than that along each axis in turn, in whole numbers of one byte, which is faster than
    the general algorithms and exact.

    Parameters
    ----------
    mask
        1 inside, 0 outside; `(z, y, x)`.

    Returns
    -------
    NDArray[np.uint8]
        Squared distance (voxels²) `(z, y, x)`; 0 outside.
    """
    squares = mask * np.uint8(LONGEST**2)
    for axis in range(squares.ndim):
        source = np.moveaxis(squares, axis, 0)
        nearest = source.copy()
        for step in range(1, min(LONGEST, len(source))):
            ahead, behind = nearest[:-step], nearest[step:]
            np.minimum(ahead, source[step:] + np.uint8(step**2), out=ahead)
            np.minimum(behind, source[:-step] + np.uint8(step**2), out=behind)
        source[...] = nearest
    return squares
