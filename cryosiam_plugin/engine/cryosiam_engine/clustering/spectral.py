"""Spectral clustering of nearest neighbours, for a hundred particles or a hundred thousand."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.clustering.kmeans import fit_kmeans
from cryosiam_engine.clustering.neighbour_graph import N_NEIGHBOURS, NeighbourGraph
from cryosiam_engine.clustering.result import Clustering, require_particles

logger = logging.getLogger(__name__)

# Times that k-means starts anew on the eigenvectors; they have few columns, so it costs little.
_STARTS = 100


def spectral_clusters(
    embeddings: NDArray[np.float32],
    num_clusters: int,
    *,
    estimate: bool = False,
    seed: int = 0,
) -> Clustering:
    """Cut the graph of nearest neighbours into clusters.

    The same mathematics as scikit-learn's spectral clustering with 10 nearest neighbours (the
    particle itself among them): the smallest eigenvectors of the normalised Laplacian, divided
    by the root of the degrees, then k-means. Eigenvectors are found in a way that holds for many
    particles, and k-means starts more often than scikit-learn's 10 times, which does not always
    find the best.

    Parameters
    ----------
    embeddings
        Shape `(n, dim)`.
    num_clusters
        How many clusters, or with `estimate` how many eigenvalues the estimate looks at.
    estimate
        Choose the number of clusters at the largest gap between neighbouring eigenvalues.
    seed
        Of the random starts.

    Raises
    ------
    ConfigurationError
        When there are fewer particles than clusters.
    """
    require_particles(len(embeddings), num_clusters, "num_clusters")
    if num_clusters == 1 or len(embeddings) < 2:
        return Clustering(np.ones(len(embeddings), np.int32))
    warnings = []
    if len(embeddings) < N_NEIGHBOURS:
        warnings.append(
            f"Only {len(embeddings)} particles: the neighbours of each are all the others, not "
            f"{N_NEIGHBOURS}."
        )
    logger.info("Finding the nearest neighbours of %d particles.", len(embeddings))
    graph = NeighbourGraph.of(embeddings)
    if estimate:
        num_clusters = estimate_clusters(graph, num_clusters, seed=seed)
        logger.info("Estimated number of clusters: %d.", num_clusters)
    if graph.n_components > num_clusters:
        warnings.append(
            f"The graph of neighbours falls apart into {graph.n_components} groups, more than "
            f"the {num_clusters} clusters: groups whose mean embeddings are near were joined."
        )
        return Clustering(_joined_parts(embeddings, graph, num_clusters, seed), warnings)
    logger.info("Cutting their graph into %d clusters.", num_clusters)
    _, vectors = graph.smallest(num_clusters, seed)
    coordinates = vectors / graph.root_degrees[:, None]
    labels = fit_kmeans(coordinates, num_clusters, seed=seed, starts=_STARTS).labels_
    return Clustering((labels + 1).astype(np.int32), warnings)


def estimate_clusters(graph: NeighbourGraph, n_eigenvalues: int, *, seed: int = 0) -> int:
    """How many clusters there are: where the smallest eigenvalues have their largest gap.

    Parameters
    ----------
    graph
        Of all particles.
    n_eigenvalues
        How many of the smallest eigenvalues are compared: one more than the largest answer,
        unless the graph falls apart into more.
    seed
        Of the random start.

    Returns
    -------
    int
        At least 1, at most `n_eigenvalues`.
    """
    if graph.n_components >= n_eigenvalues:
        return n_eigenvalues  # all eigenvalues looked at are 0: their gaps are rounding
    values, _ = graph.smallest(min(n_eigenvalues, len(graph.components)), seed)
    return 1 + int(np.argmax(np.diff(values)))


def _joined_parts(
    embeddings: NDArray[np.float32], graph: NeighbourGraph, num_clusters: int, seed: int
) -> NDArray[np.int32]:
    """Join the graph's connected parts, by k-means of their weighted means."""
    sizes = np.bincount(graph.components)
    order = np.argsort(graph.components, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sums = np.add.reduceat(embeddings[order], starts, axis=0, dtype=np.float64)
    parts = fit_kmeans(
        sums / sizes[:, None], num_clusters, seed=seed, starts=_STARTS, weights=sizes
    ).labels_
    return (parts[graph.components] + 1).astype(np.int32)
