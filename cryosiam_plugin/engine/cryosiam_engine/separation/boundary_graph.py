"""Which regions touch, and how strong the boundary between them is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.separation.bilateral import bilateral_filter

#: Planes looked at together: what is held beside the inputs is a few times this many planes.
SLAB_PLANES = 8


@dataclass(frozen=True)
class BoundaryGraph:
    """Regions as nodes, and an edge between any two that share a voxel face.

    Its attribute ``number_of_nodes`` and method ``uv_ids`` are what elf's solvers ask of a graph.

    Attributes
    ----------
    number_of_nodes
        The largest region id + 1: the background, 0, is a node like the others.
    edges
        Pairs of region ids, smaller first, `(n, 2)` in lexicographic order.
    strengths
        Mean of the smoothed boundary map along each edge, `(n,)`: over both voxels of every face
        between the two regions. A voxel with several such faces counts once for each.
    """

    number_of_nodes: int
    edges: NDArray[np.uint64]
    strengths: NDArray[np.float64]

    def uv_ids(self) -> NDArray[np.uint64]:
        """The edges, under the name that elf knows."""
        return self.edges


@dataclass(frozen=True)
class _Faces:
    """Faces between pairs of regions: keys of the pairs, boundary values, voxels counted."""

    pairs: NDArray[np.uint64]
    sums: NDArray[np.float64]
    counts: NDArray[np.int64]


def measure_boundaries(
    regions: NDArray[np.uint32], boundaries: NDArray[np.float32], *, threads: int = 1
) -> BoundaryGraph:
    """Find the pairs of regions that touch and the mean boundary value between them.

    The boundary map is smoothed by :func:`bilateral_filter` first, but only where it is read:
    beside a face between two regions. Memory beside the inputs is that of a few planes.

    Parameters
    ----------
    regions
        Region ids `(z, y, x)`, 0 = background.
    boundaries
        Probability of a boundary `(z, y, x)`.
    threads
        Number of threads.

    Returns
    -------
    BoundaryGraph
        Does not depend on `threads`.
    """
    number_of_nodes = int(regions.max()) + 1
    faces: list[_Faces] = []
    for start in range(0, regions.shape[0], SLAB_PLANES):
        faces += _faces_in_slab(regions, boundaries, start, number_of_nodes, threads)
    merged = _merge(faces)
    edges = np.stack(np.divmod(merged.pairs, np.uint64(number_of_nodes)), axis=1)
    return BoundaryGraph(number_of_nodes, edges, merged.sums / merged.counts)


def _faces_in_slab(
    regions: NDArray[np.uint32],
    boundaries: NDArray[np.float32],
    start: int,
    number_of_nodes: int,
    threads: int,
) -> Iterator[_Faces]:
    """Yield the faces of a slab's voxels, axis by axis, with those to the plane above the slab."""
    stop = min(start + SLAB_PLANES, regions.shape[0])
    planes = slice(start, min(stop + 1, regions.shape[0]))
    slab = regions[planes]
    own = slab[: stop - start]
    neighbours = [
        (slab[:-1], slab[1:]),
        (own[:, :-1], own[:, 1:]),
        (own[:, :, :-1], own[:, :, 1:]),
    ]
    differ = [lower != upper for lower, upper in neighbours]
    smoothed = _smoothed_beside(differ, boundaries, planes, threads)
    for axis, ((lower, upper), faces) in enumerate(zip(neighbours, differ, strict=True)):
        below, above = lower[faces].astype(np.uint64), upper[faces].astype(np.uint64)
        pairs = np.minimum(below, above) * np.uint64(number_of_nodes) + np.maximum(below, above)
        at_lower, at_upper = _both_sides(smoothed, axis, faces.shape)
        sums = at_lower[faces].astype(np.float64) + at_upper[faces]
        yield _merge([_Faces(pairs, sums, np.full(pairs.shape, 2))])


def _smoothed_beside(
    differ: list[NDArray[np.bool_]],
    boundaries: NDArray[np.float32],
    planes: slice,
    threads: int,
) -> NDArray[np.float32]:
    """Smooth the boundary map at the voxels of faces between regions; 0 elsewhere."""
    beside = np.zeros(boundaries[planes].shape, dtype=bool)
    for axis, faces in enumerate(differ):
        for side in _both_sides(beside, axis, faces.shape):
            side |= faces
    smoothed = np.zeros(beside.shape, dtype=np.float32)
    smoothed[beside] = bilateral_filter(boundaries, planes, beside, threads=threads)
    return smoothed


def _both_sides(
    slab: np.ndarray, axis: int, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Views of the voxels below and above an axis' faces, which are an array of this shape."""
    lower = tuple(slice(0, size) for size in shape)
    upper = tuple(slice(int(a == axis), size + int(a == axis)) for a, size in enumerate(shape))
    return slab[lower], slab[upper]


def _merge(faces: list[_Faces]) -> _Faces:
    """Add up what belongs to the same pair of regions, ordered by pair."""
    pairs, where = np.unique(np.concatenate([part.pairs for part in faces]), return_inverse=True)
    sums, counts = np.zeros(pairs.size), np.zeros(pairs.size, dtype=np.int64)
    np.add.at(sums, where, np.concatenate([part.sums for part in faces]))
    np.add.at(counts, where, np.concatenate([part.counts for part in faces]))
    return _Faces(pairs, sums, counts)
