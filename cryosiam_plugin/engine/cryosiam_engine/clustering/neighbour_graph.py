"""The graph of nearest neighbours that spectral clustering cuts, and the ends of its spectrum."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components, laplacian
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from sklearn.neighbors import kneighbors_graph

from cryosiam_engine.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: Neighbours of a particle, itself included.
N_NEIGHBOURS = 10

# Up to this many particles the whole spectrum is computed at once: a second, and exact even
# where eigenvalues are equal.
_DENSE_LIMIT = 1500
_TOLERANCE = 1e-9


@dataclass
class NeighbourGraph:
    """A symmetric graph of nearest neighbours and its normalised Laplacian L.

    Attributes
    ----------
    laplacian
        Sparse, `(n, n)`, float64, with a diagonal of 1.
    root_degrees
        Square root of each particle's summed weights to others, `(n,)`.
    components
        For each particle the connected part that it is in, `(n,)`, from 0.
    n_components
        How many connected parts there are.
    """

    laplacian: sp.csr_matrix
    root_degrees: NDArray[np.float64]
    components: NDArray[np.int32]
    n_components: int

    @classmethod
    def of(cls, embeddings: NDArray[np.float32]) -> NeighbourGraph:
        """Link each particle to its nearest, exactly, by Euclidean distance.

        The affinity is 1 where two particles are each among the other's neighbours and 1/2 where
        only one is, as scikit-learn's spectral clustering has it. Distances are computed block
        by block: memory grows with the particles, not with their square.

        Parameters
        ----------
        embeddings
            Shape `(n, dim)`, n of at least 2.
        """
        neighbours = min(N_NEIGHBOURS, len(embeddings))
        directed = kneighbors_graph(embeddings, neighbours, include_self=True)
        affinity = 0.5 * (directed + directed.T)
        matrix, root_degrees = laplacian(affinity.tocsr(), normed=True, return_diag=True)
        count, components = connected_components(affinity, directed=False)
        return cls(matrix.tocsr(), root_degrees, components, int(count))

    def smallest(self, k: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The `k` smallest eigenvalues of L, ascending, and their vectors `(n, k)`.

        Many particles: every connected part has the eigenvalue 0, with a vector that is known;
        these are set apart, and the Lanczos method looks for the largest of I - L in what is
        left. Inverting L, as scikit-learn does, takes far more memory, and Lanczos alone may
        miss some of several equal eigenvalues.

        Parameters
        ----------
        k
            At most the number of particles.
        seed
            Of the vector that Lanczos starts with.

        Raises
        ------
        ConfigurationError
            When the method does not converge.
        """
        n = self.laplacian.shape[0]
        if n <= _DENSE_LIMIT or k >= n // 2:
            values, vectors = scipy.linalg.eigh(
                self.laplacian.toarray(), subset_by_index=(0, k - 1), overwrite_a=True
            )
            return values, vectors
        known = self._kernel()
        if k <= self.n_components:
            return np.zeros(k), known[:, :k].toarray()
        values, vectors = self._beyond(known, k - self.n_components, seed)
        return (
            np.concatenate([np.zeros(self.n_components), values]),
            np.hstack([known.toarray(), vectors]),
        )

    def _kernel(self) -> sp.csc_matrix:
        """An orthonormal basis of the vectors that L makes 0: one for each connected part."""
        n = len(self.components)
        sizes = np.sqrt(np.bincount(self.components, self.root_degrees**2))
        entries = self.root_degrees / np.maximum(sizes[self.components], np.finfo(float).tiny)
        return sp.csc_matrix(
            (entries, (np.arange(n), self.components)), shape=(n, self.n_components)
        )

    def _beyond(
        self, known: sp.csc_matrix, k: int, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        n = len(self.components)

        def apply(vector: NDArray[np.float64]) -> NDArray[np.float64]:
            # Eigenvalues of I - L lie in [-1, 1]; those of the known vectors go from 1 to -1.
            flat = vector.ravel()
            return flat - self.laplacian @ flat - 2 * (known @ (known.T @ flat))

        start = np.random.RandomState(seed).uniform(-1, 1, n)
        try:
            values, vectors = eigsh(
                LinearOperator((n, n), matvec=apply, dtype=np.float64),
                k=k,
                which="LA",
                v0=start,
                ncv=min(n, max(2 * k + 20, 60)),
                tol=_TOLERANCE,
            )
        except ArpackNoConvergence as error:
            raise ConfigurationError(
                f"The graph of {n} particles has no {k} clear parts: its eigenvectors were not "
                "found.",
                remedy="Use fewer clusters, or k-means.",
            ) from error
        order = np.argsort(-values, kind="stable")
        return 1 - values[order], vectors[:, order]
