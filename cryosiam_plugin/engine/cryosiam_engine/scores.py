"""How well instances or classes agree with a ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Matches:
    """How many true and predicted objects found a partner.

    Parameters
    ----------
    matched
        Pairs of one true and one predicted object.
    spurious
        Predicted objects without a partner.
    missed
        True objects without a partner.
    """

    matched: int
    spurious: int
    missed: int

    @property
    def average_precision(self) -> float:
        """Matched over all: 1 if every object is found and nothing else; 1 for none and none."""
        total = self.matched + self.spurious + self.missed
        return self.matched / total if total else 1.0


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


def _objects(labels: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    ids, voxels = np.unique(labels[labels > 0], return_counts=True)
    return ids, voxels
