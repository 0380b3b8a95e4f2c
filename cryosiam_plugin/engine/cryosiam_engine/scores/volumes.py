"""Agreement voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def correlation(
    truth: NDArray[np.floating],
    volume: NDArray[np.floating],
    inside: NDArray[np.bool_] | None = None,
) -> float:
    """Pearson's correlation of grey values: whatever their offset and scale, -1 to 1.

    Parameters
    ----------
    truth, volume
        Both `(z, y, x)`.
    inside
        The voxels that count; None for all.

    Returns
    -------
    float
        Nan where one of them is constant.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    _same_shape(truth, volume)
    where = ... if inside is None else inside
    one, other = (part[where].astype(np.float64).ravel() for part in (truth, volume))
    if not one.size or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    one, other = one - one.mean(), other - other.mean()
    return float(np.clip(one @ other / np.linalg.norm(one) / np.linalg.norm(other), -1, 1))


def dice(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Twice the voxels in both over the voxels of each: 1 if equal, nan if there are none.

    Parameters
    ----------
    truth, predicted
        Masks `(z, y, x)`.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    _same_shape(truth, predicted)
    voxels = int(np.count_nonzero(truth)) + int(np.count_nonzero(predicted))
    return 2 * int(np.count_nonzero(truth & predicted)) / voxels if voxels else float("nan")


def dice_per_class(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: Iterable[int]
) -> dict[int, float]:
    """:func:`dice` of each of the `classes`; nan for a class that neither has.

    Parameters
    ----------
    truth, predicted
        Labels `(z, y, x)`.
    classes
        Label values.
    """
    return {index: dice(truth == index, predicted == index) for index in classes}


def _same_shape(truth: NDArray, other: NDArray) -> None:
    if truth.shape != other.shape:
        raise ValueError(f"truth {truth.shape} and prediction {other.shape} differ in shape")
