"""Regions separated too finely are joined across weak boundaries, by a multicut."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.device import cpu_threads
from cryosiam_engine.errors import EngineError
from cryosiam_engine.separation.boundary_graph import (
    SLAB_PLANES,
    BoundaryGraph,
    measure_boundaries,
)

logger = logging.getLogger(__name__)


def join_regions(
    regions: NDArray[np.uint32],
    boundaries: NDArray[np.float32],
    boundary_bias: float,
    *,
    threads: int | None = None,
) -> NDArray[np.uint32]:
    """Join touching regions that have no strong boundary between them.

    Every pair of touching regions has a cost of being cut apart, from the mean of the smoothed
    boundary map between them; the regions are grouped so that the cuts cost least (multicut).
    The background takes part: regions grouped with it keep their own extent and are joined to
    nothing. The inputs are not changed.

    Parameters
    ----------
    regions
        Region ids `(z, y, x)`, 0 = background.
    boundaries
        Probability of a boundary `(z, y, x)`.
    boundary_bias
        Between 0 and 1, both excluded. Two regions attract each other where the boundary between
        them is below 1 - `boundary_bias`: the higher it is, the less is joined.
    threads
        Number of threads; None for as many as this process may use.

    Returns
    -------
    NDArray[np.uint32]
        Joined regions `(z, y, x)`, numbered 1..n without gaps: first those that the background
        took, then the others, each in the order of their smallest region id. No region is split,
        and the background stays the background.

    Raises
    ------
    EngineError
        When python-elf, which solves the multicut, cannot be imported.

    References
    ----------
    Keuper et al. (2015), Efficient decomposition of image and mesh graphs by lifted multicuts,
    ICCV: greedy additive edge contraction followed by Kernighan-Lin moves.
    """
    elf = import_elf()
    graph = measure_boundaries(regions, boundaries, threads=threads or cpu_threads())
    clusters = _solve(elf, graph, boundary_bias)
    new_ids = _number(clusters, _present(regions, graph.number_of_nodes))
    logger.info(
        "%d regions joined to %d, across %d boundaries.",
        np.count_nonzero(new_ids),
        new_ids.max(),
        len(graph.edges),
    )
    return new_ids[regions]


def import_elf() -> Any:
    """Import elf's multicut, which takes a second or two and is needed by few commands only.

    Raises
    ------
    EngineError
        When it cannot be imported; the remedy says what to install.
    """
    try:
        return import_module("elf.segmentation.multicut")
    except (ImportError, OSError) as error:
        raise EngineError(
            f"Regions cannot be joined: python-elf does not load ({error}).",
            remedy="Install python-elf 0.9 or later beside the engine, or set postprocessing: "
            "False to keep the regions as they were separated.",
        ) from error


def _solve(elf: Any, graph: BoundaryGraph, boundary_bias: float) -> NDArray[np.uint64]:
    """Group the regions; clusters are numbered by their smallest region id, background first.

    The cost of cutting an edge of strength p is ln((1 - q) / q) + ln((1 - bias) / bias), with
    q = 0.998 p + 0.001 against infinite costs.
    """
    costs = elf.transform_probabilities_to_costs(graph.strengths, beta=boundary_bias)
    labels = elf.multicut_kernighan_lin(graph, costs)
    # The solver numbers its clusters like this already, but does not promise to.
    _, first, cluster_of = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.uint64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[cluster_of]


def _present(regions: NDArray[np.uint32], number_of_nodes: int) -> NDArray[np.bool_]:
    """Tell for every id whether it has a voxel; separation may leave gaps."""
    present = np.zeros(number_of_nodes, dtype=bool)
    for start in range(0, regions.shape[0], SLAB_PLANES):
        present[regions[start : start + SLAB_PLANES]] = True
    return present


def _number(clusters: NDArray[np.uint64], present: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Give the joined region's number for every region id; 0 for the background."""
    ids = np.flatnonzero(present[1:]) + 1
    own_id = np.where(clusters[ids] == 0, ids, 0)
    joined = np.stack([clusters[ids].astype(np.int64), own_id], axis=1)
    _, number = np.unique(joined, axis=0, return_inverse=True)
    new_ids = np.zeros(present.size, dtype=np.uint32)
    new_ids[ids] = number.reshape(-1) + 1
    return new_ids
