"""The foreground of an instance segmentation, taken from a semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.errors import MaskError
from cryosiam_engine.label_files import read_labels
from cryosiam_engine.preprocessing import slabs


def load_semantic_foreground(
    path: Path,
    labels: Sequence[int],
    tomogram: Path,
    shape: tuple[int, ...],
    *,
    mask: NDArray[np.integer] | None,
) -> tuple[NDArray[np.bool_], list[str]]:
    """Read where a semantic segmentation has one of some labels.

    Parameters
    ----------
    path
        The semantic segmentation.
    labels
        ``semantic_foreground_labels``.
    tomogram, shape
        What it must fit: the tomogram's file and shape (z, y, x).
    mask
        Nothing is foreground where it is 0; (z, y, x).

    Returns
    -------
    foreground : numpy.ndarray
        (z, y, x).
    warnings : list of str
        When no voxel is foreground.

    Raises
    ------
    MaskError
        When the segmentation cannot be read or has another shape.
    """
    values = read_labels(path)
    if values.shape != tuple(shape):
        raise MaskError(
            f"The semantic segmentation {path} has the shape {values.shape} (z, y, x), but the "
            f"tomogram {tomogram} has {tuple(shape)}.",
            remedy="Give the segmentation of this very tomogram in semantic_predictions.",
        )
    foreground = where_labels(values, labels)
    if not foreground.any():
        present = sorted({int(label) for part in slabs(shape) for label in np.unique(values[part])})
        return foreground, [
            f"NO FOREGROUND: no voxel of {path} has one of the semantic_foreground_labels "
            f"{list(labels)}; it has {present}."
        ]
    if mask is not None:
        for part in slabs(shape):
            foreground[part] &= mask[part] > 0
    return foreground, []


def where_labels(values: NDArray[np.integer], labels: Sequence[int]) -> NDArray[np.bool_]:
    """True where `values` (z, y, x) is one of `labels`."""
    where = np.empty(values.shape, dtype=bool)
    for part in slabs(values.shape):
        where[part] = np.isin(values[part], labels)
    return where
