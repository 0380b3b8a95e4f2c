"""What a clustering says about every particle."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.errors import ConfigurationError


@dataclass
class Clustering:
    """The cluster of every particle.

    Attributes
    ----------
    clusters
        From 1; 0 is no cluster. Shape `(n,)`.
    warnings
        What the user should know.
    centers
        What the method itself took for the clusters' centres, shape `(clusters, dim)`; only
        k-means has some.
    """

    clusters: NDArray[np.int32]
    warnings: list[str] = field(default_factory=list)
    centers: NDArray[np.float64] | None = None


def require_particles(n: int, needed: int, key: str) -> None:
    """Refuse to make more clusters than there are particles, or larger ones.

    Parameters
    ----------
    n
        Particles.
    needed
        The fewest that make sense.
    key
        The configuration's key that asks for them.

    Raises
    ------
    ConfigurationError
        When there are fewer.
    """
    if n < needed:
        raise ConfigurationError(
            f"There are {n} particles, fewer than {key} ({needed}).",
            remedy=f"Lower {key}, or add tomograms to clustering_files.",
        )
