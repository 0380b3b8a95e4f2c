"""K-means, the same every time."""

from __future__ import annotations

import warnings as python_warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from cryosiam_engine.clustering.result import Clustering, require_particles

_MAX_ITERATIONS = 1000


def kmeans_clusters(
    embeddings: NDArray[np.float32], num_clusters: int, *, seed: int = 0
) -> Clustering:
    """Divide embeddings among `num_clusters` centres.

    Parameters
    ----------
    embeddings
        Shape `(n, dim)`.
    num_clusters
        How many clusters.
    seed
        Of the first centres.

    Returns
    -------
    Clustering
        Clusters from 1, and their centres.

    Raises
    ------
    ConfigurationError
        When there are fewer particles than clusters.
    """
    require_particles(len(embeddings), num_clusters, "num_clusters")
    fitted = fit_kmeans(embeddings, num_clusters, seed=seed)
    found = len(np.unique(fitted.labels_))
    warnings = []
    if found < num_clusters:
        warnings.append(f"Only {found} of {num_clusters} clusters: the other particles are equal.")
    if fitted.n_iter_ >= _MAX_ITERATIONS:
        warnings.append(f"K-means was stopped after {_MAX_ITERATIONS} iterations.")
    clusters = fitted.labels_.astype(np.int32) + 1
    return Clustering(clusters, warnings, fitted.cluster_centers_.astype(np.float64))


def fit_kmeans(
    points: NDArray[np.floating],
    num_clusters: int,
    *,
    seed: int,
    starts: int | Literal["auto"] = "auto",
    weights: NDArray[np.integer] | None = None,
) -> KMeans:
    """Fit scikit-learn's k-means.

    Threads would sum centres in the order in which they finish, and rounding may move a particle
    between clusters; one thread has one order.

    Parameters
    ----------
    points
        Shape `(n, dim)`.
    num_clusters
        At most n.
    seed
        Of the first centres.
    starts
        How often it begins anew; the best is kept.
    weights
        Of the points, all equal if None.
    """
    model = KMeans(
        n_clusters=num_clusters, max_iter=_MAX_ITERATIONS, n_init=starts, random_state=seed
    )
    with threadpool_limits(1, user_api="openmp"), python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore", ConvergenceWarning)  # told in our own words
        return model.fit(points, sample_weight=weights)
