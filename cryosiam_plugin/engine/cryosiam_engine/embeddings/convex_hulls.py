"""The convex hull of a particle's voxels, exactly and without testing every voxel of its box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

#: A voxel centre this far (in voxels) outside a facet is still inside: rounding, not geometry.
_TOLERANCE = 1e-10

#: Facets times rows that are looked at together: bounds the temporary memory (three such arrays).
_FACET_ROWS = 2_000_000


def convex_hull(mask: NDArray[np.bool_], *, flat: bool = True) -> NDArray[np.bool_]:
    """Fill the convex hull of a set of voxels.

    A voxel reaches half its edge from its centre along each axis, and those voxels belong to the
    hull whose centres lie in it: what ``skimage.morphology.convex_hull_image`` gives. Here only
    the two ends of each row of voxels take part, since no other voxel can be a corner, and each
    row of the hull is found as a whole.

    Parameters
    ----------
    mask
        Boolean `(z, y, x)`.
    flat
        What becomes of voxels that all lie in one plane or line (one voxel does). True: they
        have a hull as any others. False: the hull is empty, as scikit-image has it.

    Returns
    -------
    numpy.ndarray
        Boolean `(z, y, x)`; without any voxel in `mask` none.
    """
    hull = _hull_of_voxels(_row_ends(mask), flat=flat)
    return np.zeros(mask.shape, bool) if hull is None else _voxels_in(hull, mask.shape)


def _row_ends(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First and last voxel of each row along x that has any: `(2 * rows, 3)` of (z, y, x)."""
    z, y = np.nonzero(mask.any(axis=2))
    first = mask.argmax(axis=2)[z, y]
    last = mask.shape[2] - 1 - mask[:, :, ::-1].argmax(axis=2)[z, y]
    return np.column_stack([np.tile(z, 2), np.tile(y, 2), np.concatenate([first, last])])


def _hull_of_voxels(centers: NDArray[np.int64], *, flat: bool) -> ConvexHull | None:
    """Hull of the voxels with their extent; None without voxels, or for a flat set if not wanted.

    Parameters
    ----------
    centers
        Voxel indices `(n, 3)`.
    """
    if not len(centers):
        return None
    try:
        hull = ConvexHull(centers)
        corners = hull.points[hull.vertices]
    except QhullError:
        # Too few points, or all in one plane or line: flat, until the voxels get their extent.
        if not flat:
            return None
        corners = centers.astype(float)
    half = 0.5 * np.eye(3)
    reach = np.vstack([half, -half])
    # Two voxels can share such a point, and repeated points can trouble the hull's algorithm.
    return ConvexHull(np.unique((corners[:, None, :] + reach).reshape(-1, 3), axis=0))


def _voxels_in(hull: ConvexHull, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Voxels whose centres lie in a hull, a few planes at a time.

    A plane cuts the hull in a polygon whose edges come from the facets that reach the plane.
    """
    facet_z = hull.points[hull.simplices, 0]
    lowest = facet_z.min(axis=1) - _TOLERANCE
    highest = facet_z.max(axis=1) + _TOLERANCE
    inside = np.zeros(shape, bool)
    depth = max(1, _FACET_ROWS // (len(hull.equations) * shape[1]))
    for start in range(0, shape[0], depth):
        planes = inside[start : start + depth]
        facets = hull.equations[(lowest < start + len(planes)) & (highest >= start)]
        if len(facets):
            _fill_planes(planes, start, facets)
    return inside


def _fill_planes(planes: NDArray[np.bool_], start: int, facets: NDArray[np.float64]) -> None:
    """Set the voxels of `planes` `(z, y, x)`, the first of which is plane `start`, in place.

    Parameters
    ----------
    facets
        Half spaces `(n, 4)`: a point is inside where a z + b y + c x + d <= 0 for all of them.
    """
    depth, height, width = planes.shape
    z = np.repeat(np.arange(start, start + depth), height)
    y = np.tile(np.arange(height), depth)
    # Inside where slope * x <= room, separately for the facets on the left and on the right.
    room = _TOLERANCE - facets[:, 3:] - facets[:, :2] @ np.stack([z, y])
    slope = facets[:, 2:3]
    right, left = slope[:, 0] > _TOLERANCE, slope[:, 0] < -_TOLERANCE
    first = np.max(room[left] / slope[left], axis=0, initial=-np.inf)
    last = np.min(room[right] / slope[right], axis=0, initial=np.inf)
    last[(room[~(left | right)] < 0).any(axis=0)] = -np.inf
    x = np.arange(width)
    within = (x >= first[:, None]) & (x <= last[:, None])
    planes[...] = within.reshape(planes.shape)
