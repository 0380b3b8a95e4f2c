"""The lamella: a clean, convex mask from the probability that a voxel belongs to the sample."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import ConvexHull, QhullError
from skimage.morphology import convex_hull_image
from skimage.transform import pyramid_expand, pyramid_reduce

from cryosiam_engine.components import largest_component

#: Standard deviation of the smoothing in voxels, (z, y, x).
SMOOTHING_SIGMA = (10.0, 5.0, 5.0)

#: How much the original reduces the component before it takes its 3D hull.
_REFERENCE_REDUCTION = 4

#: A voxel centre this far (in voxels) outside a facet is still inside: rounding, not geometry.
_TOLERANCE = 1e-10


def clean_lamella(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    threshold: float,
    hull_3d: bool,
    faithful: bool = False,
) -> tuple[np.ndarray, bool]:
    """Replace a raw lamella segmentation by the convex hull of its largest smooth component.

    The probabilities are smoothed with a Gaussian (sigma 10, 5, 5 voxels in z, y, x; zeros
    outside the volume) and thresholded; the largest 26-connected component remains. Where
    nothing exceeds the threshold the mask is empty (the original marks the whole volume).

    Parameters
    ----------
    probabilities
        Probability of the lamella, float32 `(z, y, x)`. Destroyed: it is smoothed in place.
    labels
        Thresholded integer labels `(z, y, x)`. Overwritten with the result, 0 and 1.
    threshold
        Smoothed probability above which a voxel belongs to the lamella.
    hull_3d
        One hull in three dimensions instead of one per z slice.
    faithful
        Repeat two oddities of the original. Slice by slice: slices without the component keep
        their thresholded labels (by default they are cleared). In 3D: the hull is taken on a
        grid four times coarser and only voxels whose re-expanded value reaches 1 remain, a
        result that rounding decides and that needs several float64 volumes of memory (by
        default the hull is exact, at full resolution).

    Returns
    -------
    labels : np.ndarray
        The array `labels`, with the result.
    found : bool
        Whether there is a lamella; if not, every label is 0.
    """
    gaussian_filter(
        probabilities, SMOOTHING_SIGMA, mode="constant", truncate=4.0, output=probabilities
    )
    component = largest_component(probabilities > threshold)
    if not component.any():
        labels[...] = 0
    elif not hull_3d:
        _fill_slices(component, labels, keep_others=faithful)
    elif faithful:
        _fill_hull_of_pyramid(component, labels)
    else:
        _fill_hull(component, labels)
    found = bool(labels.any())
    return labels, found


def _fill_slices(component: np.ndarray, labels: np.ndarray, *, keep_others: bool) -> None:
    """Write the 2D hull of each z slice; slices without the component are cleared or kept."""
    for plane, label_plane in zip(component, labels, strict=True):
        ends = _row_ends(plane)
        if len(ends):
            _fill_polygon(label_plane, _hull_of_voxels(ends).equations)
        elif not keep_others:
            label_plane[...] = 0


def _fill_hull(component: np.ndarray, labels: np.ndarray) -> None:
    """Write the 3D hull at full resolution, plane by plane.

    A z plane cuts the hull in a polygon, and the polygon's edges come from the facets that the
    plane meets: a few of all facets, and each row of the polygon is one interval in x.
    """
    ends = [_row_ends(plane) for plane in component]
    points = np.vstack([np.insert(rows, 0, z, axis=1) for z, rows in enumerate(ends)])
    hull = _hull_of_voxels(points)
    facet_z = hull.points[hull.simplices, 0]
    lowest = facet_z.min(axis=1) - _TOLERANCE
    highest = facet_z.max(axis=1) + _TOLERANCE
    for z, label_plane in enumerate(labels):
        cut = hull.equations[(lowest <= z) & (z <= highest)]
        edges = np.column_stack([cut[:, 1:3], cut[:, 0] * z + cut[:, 3]])
        _fill_polygon(label_plane, edges)


def _fill_hull_of_pyramid(component: np.ndarray, labels: np.ndarray) -> None:
    """Write the 3D hull as the original computes it: reduced, hulled, expanded, truncated."""
    reduced = pyramid_reduce(component, _REFERENCE_REDUCTION, preserve_range=True)
    hull = convex_hull_image(reduced)
    expanded = pyramid_expand(hull, _REFERENCE_REDUCTION, preserve_range=True)
    np.copyto(labels, expanded[tuple(map(slice, labels.shape))], casting="unsafe")


def _row_ends(plane: np.ndarray) -> np.ndarray:
    """First and last voxel of each row that has any: `(2 * rows, 2)` of (y, x).

    No other voxel of the row can be a corner of the hull.
    """
    y = np.flatnonzero(plane.any(axis=1))
    occupied = plane[y]
    first = occupied.argmax(axis=1)
    last = plane.shape[1] - 1 - occupied[:, ::-1].argmax(axis=1)
    return np.column_stack([np.tile(y, 2), np.concatenate([first, last])])


def _hull_of_voxels(centers: np.ndarray) -> ConvexHull:
    """Hull of voxels that reach half a voxel from their centre along each axis.

    Parameters
    ----------
    centers
        Voxel indices `(n, dimensions)`, at least one.
    """
    try:
        hull = ConvexHull(centers)
        corners = hull.points[hull.vertices]
    except QhullError:
        # Too few points, or all in one plane or line: flat, until the voxels get their extent.
        corners = centers.astype(float)
    half = 0.5 * np.eye(centers.shape[1])
    reach = np.vstack([half, -half])
    return ConvexHull((corners[:, None, :] + reach).reshape(-1, centers.shape[1]))


def _fill_polygon(label_plane: np.ndarray, edges: np.ndarray) -> None:
    """Set `label_plane` `(y, x)` to 1 inside a convex polygon and to 0 outside.

    Parameters
    ----------
    label_plane
        Written in place.
    edges
        Half planes `(n, 3)`: a point is inside where a * y + b * x + c <= 0 for all (a, b, c).
        Without edges the polygon is empty.
    """
    height, width = label_plane.shape
    if not len(edges):
        label_plane[...] = 0
        return
    # Inside where slope * x <= room, separately for the edges on the left and on the right.
    room = _TOLERANCE - edges[:, :1] * np.arange(height) - edges[:, 2:]
    slope = edges[:, 1:2]
    right, left = slope[:, 0] > _TOLERANCE, slope[:, 0] < -_TOLERANCE
    first = np.max(room[left] / slope[left], axis=0, initial=-np.inf)
    last = np.min(room[right] / slope[right], axis=0, initial=np.inf)
    outside = (room[~(left | right)] < 0).any(axis=0)
    last[outside] = -np.inf
    x = np.arange(width)
    np.logical_and(x >= first[:, None], x <= last[:, None], out=label_plane, casting="unsafe")
