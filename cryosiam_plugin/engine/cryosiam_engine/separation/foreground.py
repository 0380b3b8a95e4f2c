"""Which voxels belong to any instance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryosiam_engine.separation.regions import (
    Progress,
    bricks,
    for_each,
    grown,
    inside,
    silent,
    whole,
)
from cryosiam_engine.tiling import Region

#: Standard deviation (voxels) of the Gaussian that smooths the maps, and where it is cut off.
SIGMA, TRUNCATE = 0.5, 4.0

#: So many voxels away the Gaussian still sees.
SMOOTHING_REACH = 2

#: Rounding can lift a smoothed value above all it was made of, by far less than this share.
_ROUNDING = 1e-5


def smoothed(volume: NDArray[Any], box: Region) -> NDArray[Any]:
    """Smooth a box of a volume: bit by bit what smoothing the whole volume gives there.

    Parameters
    ----------
    volume
        Floating point values `(z, y, x)`; beyond its border the nearest voxel's value counts.
    box
        What to smooth.

    Returns
    -------
    NDArray
        A new array of the box's size and the volume's type.
    """
    around = grown(box, SMOOTHING_REACH, whole(volume.shape))
    result = ndimage.gaussian_filter(volume[around], SIGMA, mode="nearest", truncate=TRUNCATE)
    return result[inside(box, around)]


def foreground_mask(
    foreground: NDArray[np.float32],
    threshold: float,
    threads: int,
    progress: Progress = silent,
) -> NDArray[np.uint8]:
    """Mark the voxels whose smoothed probability reaches the threshold.

    Parameters
    ----------
    foreground
        Probability `(z, y, x)`.
    threshold
        From 1 on the probability is not smoothed.
    threads
        How many parts of the volume are worked on at a time.
    progress
        Called with the number of finished parts and of all parts.

    Returns
    -------
    NDArray[np.uint8]
        1 in the foreground, else 0; `(z, y, x)`.
    """
    mask = np.zeros(foreground.shape, np.uint8)
    limits = whole(foreground.shape)

    def fill(box: Region) -> None:
        if threshold >= 1:
            mask[box] = foreground[box] >= threshold
            return
        highest = float(foreground[grown(box, SMOOTHING_REACH, limits)].max())
        if highest * (1 + _ROUNDING) >= threshold or threshold <= 0:
            mask[box] = smoothed(foreground, box) >= threshold

    for_each(fill, bricks(limits), threads, progress)
    return mask
