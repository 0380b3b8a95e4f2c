"""Embeddings in two or three dimensions, to be looked at."""

from __future__ import annotations

import logging
import warnings

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.errors import ConfigurationError

logger = logging.getLogger(__name__)

_UMAP_NEIGHBOURS = 10
#: With more points UMAP is given the first principal components instead of the embeddings.
UMAP_FULL_LIMIT = 50_000
_UMAP_COMPONENTS = 50
_ROWS = 8192


def pca_coordinates(embeddings: NDArray[np.floating], n_components: int) -> NDArray[np.float32]:
    """Coordinates along the first principal components.

    Computed from the exact covariance in float64, a few thousand rows at a time, so without a
    copy of the embeddings. The largest entry of every component is made positive: a sign that
    does not depend on the library.

    Parameters
    ----------
    embeddings
        Shape `(n, dim)`.
    n_components
        How many; those beyond `dim` are 0.

    Returns
    -------
    numpy.ndarray
        Shape `(n, n_components)`.
    """
    n, dim = embeddings.shape
    coordinates = np.zeros((n, n_components), np.float32)
    kept = min(n_components, dim)
    if n < 2 or kept == 0:
        return coordinates
    mean = embeddings.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((dim, dim))
    for start in range(0, n, _ROWS):
        centred = embeddings[start : start + _ROWS] - mean
        covariance += centred.T @ centred
    _, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :kept]
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(kept)])
    for start in range(0, n, _ROWS):
        block = (embeddings[start : start + _ROWS] - mean) @ components
        coordinates[start : start + _ROWS, :kept] = block
    return coordinates


def umap_coordinates(
    embeddings: NDArray[np.floating],
    *,
    n_components: int = 2,
    metric: str = "euclidean",
    seed: int = 10,
) -> NDArray[np.float32]:
    """Coordinates that keep neighbours together (UMAP), with the original's settings.

    Ten neighbours, no minimal distance, a fixed seed, one thread: the same input gives the same
    map (of one version of UMAP). With the Euclidean distance more than 50,000 points are first
    reduced to 50 principal components, which loses little and saves most of the time.

    Parameters
    ----------
    embeddings
        Shape `(n, dim)`.
    n_components
        2 or 3.
    metric
        Distance between embeddings.
    seed
        Of everything random in it.

    Returns
    -------
    numpy.ndarray
        Shape `(n, n_components)`. Fewer than six points have no neighbourhoods to keep: they
        get the principal components.

    Raises
    ------
    ConfigurationError
        When UMAP refuses the metric.
    """
    n = len(embeddings)
    if n < n_components + 4:
        if n:
            logger.warning("Only %d particles, too few for UMAP: shown by PCA.", n)
        return pca_coordinates(embeddings, n_components)
    from umap import UMAP  # compiles for seconds, so only when it is needed

    if n > UMAP_FULL_LIMIT and metric == "euclidean":
        embeddings = pca_coordinates(embeddings, min(_UMAP_COMPONENTS, embeddings.shape[1]))
    model = UMAP(
        n_neighbors=min(_UMAP_NEIGHBOURS, n - 1),
        n_components=n_components,
        min_dist=0.0,
        metric=metric,
        random_state=seed,
        n_jobs=1,
        low_memory=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own internals, and of no use to the user
        try:
            points = model.fit_transform(embeddings)
        except ValueError as error:
            raise ConfigurationError(
                f"UMAP refuses these embeddings: {error}",
                remedy="Try another distance, or pca_components.",
            ) from error
    return np.asarray(points, np.float32)
