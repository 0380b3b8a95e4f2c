"""Why no instance was found: the numbers that tell a user which threshold to change."""

from __future__ import annotations

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.separation import SeparationSettings

#: Standard deviation (voxels) of the smoothing before the separation.
_SIGMA = 0.5
#: Euclidean distances to the surface are cut off here (voxels).
_MAX_DISTANCE = 5
#: Sections that a slab needs on both sides: two smoothings of 2 voxels, and the distance.
_HALO = 2 + 2 + _MAX_DISTANCE


def explain_empty(
    foreground: NDArray[np.float32],
    distances: NDArray[np.float32] | None,
    settings: SeparationSettings,
) -> str:
    """Say why there is no instance, with the highest values that were met.

    Parameters
    ----------
    foreground
        Probability (z, y, x).
    distances
        As predicted (z, y, x); None for ``distance_type`` 2.
    settings
        The thresholds.

    Returns
    -------
    str
        A warning with a remedy.
    """
    highest_foreground, highest_distance, n_voxels = 0.0, 0.0, 0
    for part in slabs(foreground.shape):
        seen = slice(max(0, part.start - _HALO), part.stop + _HALO)
        inner = slice(part.start - seen.start, part.stop - seen.start)
        smooth, heights = _smooth_and_heights(
            foreground[seen], None if distances is None else distances[seen], settings
        )
        inside = smooth[inner] >= settings.threshold_foreground
        highest_foreground = max(highest_foreground, float(smooth[inner].max()))
        n_voxels += int(np.count_nonzero(inside))
        highest_distance = max(highest_distance, float(heights[inner].max(initial=0, where=inside)))
    smoothed = " after smoothing" if settings.threshold_foreground < 1 else ""
    if not n_voxels:
        return (
            f"NO INSTANCES: the highest foreground probability is {highest_foreground:.3g}"
            f"{smoothed}, below threshold_foreground {settings.threshold_foreground:g}. Check that "
            "the input is the denoised tomogram (protein bright) and that the mask is right, or "
            "lower threshold_foreground."
        )
    return (
        f"NO INSTANCES: {n_voxels} voxels are foreground, but the highest distance to a surface "
        f"there is {highest_distance:.3g}, and a particle's centre needs min_center_distance "
        f"{settings.min_center_distance:g}. Lower min_center_distance, or threshold_foreground so "
        "that the particles become thicker."
    )


def _smooth_and_heights(
    foreground: NDArray[np.float32],
    distances: NDArray[np.float32] | None,
    settings: SeparationSettings,
) -> tuple[NDArray[np.float32], NDArray[np.floating]]:
    """The foreground as it is thresholded, and the distances in which centres are sought."""
    smooth = foreground
    if settings.threshold_foreground < 1:
        smooth = gaussian_filter(foreground, _SIGMA, mode="nearest")
    heights = []
    if distances is not None and settings.distance_type != 2:
        heights.append(gaussian_filter(distances, _SIGMA, mode="nearest").clip(0))
    if settings.distance_type != 0:
        squares = edt.edtsq(smooth >= settings.threshold_foreground, black_border=False)
        euclidean = np.sqrt(np.minimum(squares, _MAX_DISTANCE**2))
        heights.append(gaussian_filter(euclidean, _SIGMA, mode="nearest"))
    return smooth, sum(heights) / len(heights)
