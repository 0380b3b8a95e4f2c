"""Smoothing of a boundary map that keeps its edges, only at the voxels that are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

#: Standard deviation of the Gaussian in space (voxels) and in grey value.
DOMAIN_SIGMA = 1.0
RANGE_SIGMA = 0.1

#: The neighbourhood reaches this far along each axis (voxels): 2.5 standard deviations, rounded up.
RADIUS = 3

#: The Gaussian of the grey value is a staircase of this many steps up to 4 standard deviations,
#: and 0 from there on.
RANGE_STEPS = 100
RANGE_LIMIT = 4.0 * RANGE_SIGMA

#: Voxels filtered at once: few enough for a core's cache, many enough that threads seldom wait
#: for the interpreter.
CHUNK_VOXELS = 65_536


def bilateral_filter(
    volume: NDArray[np.float32], planes: slice, where: NDArray[np.bool_], *, threads: int = 1
) -> NDArray[np.float32]:
    """Filter a volume as ITK's ``BilateralImageFilter`` does, at some voxels of some planes.

    A voxel becomes the mean of its 7 x 7 x 7 neighbours, weighted by a Gaussian of their distance
    (standard deviation 1 voxel) and a Gaussian of their difference in grey value (0.1). The
    volume goes on beyond its border with the value at the border.

    Parameters
    ----------
    volume
        Grey values `(z, y, x)`.
    planes
        The planes (z) looked at, with start and stop.
    where
        The voxels wanted, `(planes, y, x)`.
    threads
        Number of threads.

    Returns
    -------
    NDArray[np.float32]
        The filtered values at the voxels where `where` is true, in raster order. To within
        rounding of double precision they are ITK's.

    References
    ----------
    Tomasi & Manduchi (1998), Bilateral filtering for gray and color images, ICCV.
    """
    padded = _with_margin(volume, planes)
    _, height, width = padded.shape
    z, y, x = np.nonzero(where)
    corners = (z * height + y) * width + x
    values = np.empty(corners.size, dtype=np.float32)

    def fill(start: int) -> None:
        chunk = slice(start, start + CHUNK_VOXELS)
        values[chunk] = _filtered(padded, corners[chunk])

    starts = range(0, corners.size, CHUNK_VOXELS)
    if threads == 1 or len(starts) < 2:
        for start in starts:
            fill(start)
    else:
        with ThreadPoolExecutor(min(threads, len(starts))) as pool:
            list(pool.map(fill, starts))
    return values


def _with_margin(volume: NDArray[np.float32], planes: slice) -> NDArray[np.float32]:
    """Give some planes with :data:`RADIUS` more voxels on each side, repeated at the border."""
    below = min(RADIUS, planes.start)
    above = min(RADIUS, volume.shape[0] - planes.stop)
    context = volume[planes.start - below : planes.stop + above]
    across = (RADIUS, RADIUS)
    return np.pad(context, ((RADIUS - below, RADIUS - above), across, across), mode="edge")


def _filtered(padded: NDArray[np.float32], corners: NDArray[np.int64]) -> NDArray[np.floating]:
    """Filter at the voxels whose neighbourhoods begin at these flat indices of `padded`."""
    flat = padded.ravel()
    centre_offset = (RADIUS * padded.shape[1] + RADIUS) * padded.shape[2] + RADIUS
    centre = flat[corners + centre_offset].astype(np.float64)
    neighbour, weight, total, norm = (np.zeros_like(centre) for _ in range(4))
    grey = np.empty(corners.size, dtype=np.float32)
    step = np.empty(corners.size, dtype=np.int32)
    steps = _range_weights()
    for offset, domain_weight in _domain_weights(padded.shape):
        # In double precision and in ITK's order of operations, so that every difference falls on
        # the same step of the staircase as there.
        np.take(flat[offset:], corners, out=grey, mode="clip")
        neighbour[:] = grey
        np.subtract(neighbour, centre, out=weight)
        np.abs(weight, out=weight)
        weight *= RANGE_STEPS / RANGE_LIMIT
        # Far differences share the last step, whose weight is 0, and must not overflow.
        np.minimum(weight, RANGE_STEPS, out=weight)
        step[:] = weight
        np.take(steps * domain_weight, step, out=weight, mode="clip")
        norm += weight
        weight *= neighbour
        total += weight
    return total / norm


def _range_weights() -> NDArray[np.float64]:
    """Weight of each step of grey value difference, and 0 as the last one for all beyond."""
    widths = np.full(RANGE_STEPS, RANGE_LIMIT / RANGE_STEPS)
    widths[0] = 0
    difference = np.cumsum(widths)
    return np.append(np.exp(-0.5 * difference**2 / RANGE_SIGMA**2), 0.0)


def _domain_weights(shape: tuple[int, ...]) -> Iterator[tuple[int, float]]:
    """Yield flat offset (from the corner) and weight of each neighbour, in raster order."""
    axis = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / DOMAIN_SIGMA) ** 2)
    axis /= axis.sum()
    _, height, width = shape
    for z, y, x in itertools.product(range(axis.size), repeat=3):
        yield (z * height + y) * width + x, float(axis[z] * axis[y] * axis[x])
