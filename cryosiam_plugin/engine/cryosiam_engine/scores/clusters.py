"""Agreement of clusters with the kinds of particles that there are."""

from __future__ import annotations

from numpy.typing import ArrayLike
from sklearn.metrics import adjusted_rand_score


def cluster_agreement(truth: ArrayLike, clusters: ArrayLike) -> float:
    """Adjusted Rand index (Hubert & Arabie, 1985): 1 for the same partition, 0 as by chance.

    Parameters
    ----------
    truth
        Kind of every particle, `(n,)`.
    clusters
        Its cluster, `(n,)`; the numbers themselves mean nothing.
    """
    return float(adjusted_rand_score(truth, clusters))
