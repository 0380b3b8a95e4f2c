"""Which predicted objects are which true ones: instances by overlap, points by distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cryosiam_engine.scores.matches import Matches


def match_instances(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], *, iou: float = 0.5
) -> Matches:
    """Match true and predicted instances whose intersection over union is large enough.

    Parameters
    ----------
    truth, predicted
        Labels `(z, y, x)`, 0 = background.
    iou
        Intersection over union that a pair needs, 0.5 or more: then no object has two partners.

    Returns
    -------
    Matches
        As the instance segmentation benchmarks of microscopy count them; its
        `average_precision` is their score.

    Raises
    ------
    ValueError
        When the shapes differ, or `iou` is below 0.5.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    if iou < 0.5:
        raise ValueError("an intersection over union below 0.5 does not tell partners apart")
    true_ids, true_voxels = _objects(truth)
    ids, voxels = _objects(predicted)
    both = (truth > 0) & (predicted > 0)
    pairs = np.stack([truth[both].astype(np.int64), predicted[both].astype(np.int64)])
    (first, second), overlap = np.unique(pairs, axis=1, return_counts=True)
    union = true_voxels[np.searchsorted(true_ids, first)] + voxels[np.searchsorted(ids, second)]
    ratio = overlap / (union - overlap)
    # At exactly 0.5 an object may have two candidates: the pairing is by distinct objects.
    chosen = ratio >= iou
    matched = min(len(np.unique(first[chosen])), len(np.unique(second[chosen])))
    return Matches(matched, len(ids) - matched, len(true_ids) - matched)


def match_points(truth: ArrayLike, predicted: ArrayLike, distance: float) -> Matches:
    """Match true and predicted points, each with at most one partner.

    As many pairs as possible are made of points that are no further apart than `distance`
    (Hungarian algorithm): a point is never left over because another one came first.

    Parameters
    ----------
    truth, predicted
        Positions `(n, 3)`, in the same unit as `distance`.
    distance
        Largest distance of partners.

    Raises
    ------
    ValueError
        When positions are not `(n, 3)` or the distance is negative.
    """
    true_points, points = _positions(truth), _positions(predicted)
    if distance < 0:
        raise ValueError(f"points are never {distance} apart")
    matched = 0
    if len(true_points) and len(points):
        near = cdist(true_points, points) <= distance
        matched = int(near[linear_sum_assignment(near, maximize=True)].sum())
    return Matches(matched, len(points) - matched, len(true_points) - matched)


def true_partners(truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.int64]:
    """Say for every predicted instance which true one holds most of its voxels.

    Parameters
    ----------
    truth, predicted
        Labels `(z, y, x)`, 0 = background.

    Returns
    -------
    numpy.ndarray
        `(largest predicted label + 1,)`: at each label the true label, 0 where it holds none.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
    both = (truth > 0) & (predicted > 0)
    pairs = np.stack([predicted[both].astype(np.int64), truth[both].astype(np.int64)])
    (found, true), overlap = np.unique(pairs, axis=1, return_counts=True)
    partners = np.zeros(int(predicted.max(initial=0)) + 1, np.int64)
    order = np.argsort(overlap, kind="stable")
    # Of several entries for one label the last one stays: that with the largest overlap.
    partners[found[order]] = true[order]
    return partners


def _objects(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    ids, voxels = np.unique(labels[labels > 0], return_counts=True)
    return ids, voxels


def _positions(points: ArrayLike) -> NDArray[np.float64]:
    positions = np.asarray(points, np.float64)
    if positions.size == 0:
        return np.zeros((0, 3))
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions are (n, 3), not {positions.shape}")
    return positions
