"""Which particles stand for a cluster: those nearest to its centre."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = 8192


def distances_to_centers(
    embeddings: NDArray[np.float32], clusters: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Euclidean distance of each particle to the mean embedding of its cluster.

    For embeddings of length 1, as contrastive models make them, the order within a cluster is
    also that of the cosine distance.

    Parameters
    ----------
    embeddings
        Shape `(n, dim)`.
    clusters
        From 1; 0 is no cluster. Shape `(n,)`.

    Returns
    -------
    numpy.ndarray
        Shape `(n,)`; NaN in no cluster.
    """
    distances = np.full(len(clusters), np.nan)
    order = np.argsort(clusters, kind="stable")
    ends = np.flatnonzero(np.diff(clusters[order])) + 1
    for members in np.split(order, ends):
        if not len(members) or clusters[members[0]] == 0:
            continue
        blocks = [members[start : start + _ROWS] for start in range(0, len(members), _ROWS)]
        sums = [embeddings[block].sum(axis=0, dtype=np.float64) for block in blocks]
        center = np.sum(sums, axis=0) / len(members)
        for block in blocks:
            distances[block] = np.linalg.norm(embeddings[block] - center, axis=1)
    return distances


def ranks(clusters: NDArray[np.int32], distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order the particles of each cluster: 1 is the nearest to the centre.

    Parameters
    ----------
    clusters, distances
        Of each particle, shape `(n,)`.

    Returns
    -------
    numpy.ndarray
        Shape `(n,)`; 0 in no cluster. Of equal distances the earlier row comes first.
    """
    order = np.lexsort((distances, clusters))
    ordered = clusters[order]
    first = np.searchsorted(ordered, ordered, side="left")
    result = np.empty(len(clusters), np.int64)
    result[order] = np.arange(len(clusters)) - first + 1
    result[clusters == 0] = 0
    return result
