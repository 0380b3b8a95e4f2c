"""HDBSCAN: clusters where embeddings are dense, and no cluster for what lies between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN

from cryosiam_engine.clustering.reduction import pca_coordinates
from cryosiam_engine.clustering.result import Clustering, require_particles

#: Density means little in hundreds of dimensions, so only the first principal ones count.
MAX_DIMENSIONS = 50


def hdbscan_clusters(
    embeddings: NDArray[np.float32], min_cluster_size: int, *, min_samples: int | None = None
) -> Clustering:
    """Find the dense groups in the first 50 principal components; nothing in it is random.

    Parameters
    ----------
    embeddings
        Shape `(n, dim)`.
    min_cluster_size
        The fewest particles of a cluster.
    min_samples
        Neighbours that make a place dense; more of them leave more particles out. None:
        `min_cluster_size`.

    Returns
    -------
    Clustering
        Clusters from 1; 0 for particles in no dense group.

    Raises
    ------
    ConfigurationError
        When there are fewer particles than one cluster needs.
    """
    n = len(embeddings)
    require_particles(n, min_cluster_size, "min_cluster_size")
    if min_samples is not None:
        require_particles(n, min_samples, "min_samples")
    points = pca_coordinates(embeddings, min(MAX_DIMENSIONS, n, embeddings.shape[1]))
    # Cores share the search for neighbours, in which each particle has its own result.
    model = HDBSCAN(
        min_cluster_size=min_cluster_size, min_samples=min_samples, n_jobs=-1, copy=True
    )
    clusters = model.fit_predict(points).astype(np.int32) + 1
    warnings = []
    if not clusters.any():
        warnings.append(
            "NO CLUSTERS: no group is dense enough. Lower min_cluster_size or min_samples."
        )
    return Clustering(clusters, warnings)
