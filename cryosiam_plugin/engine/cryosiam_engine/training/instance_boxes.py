"""Sizes and boxes of the instances in a label file that stays on the disk."""

from __future__ import annotations

from pathlib import Path

import cc3d
import fastremap
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.training.class_places import checked_labels
from cryosiam_engine.training.mapped_volume import mapped_volume


def instance_boxes(path: Path) -> pd.DataFrame:
    """Measure every instance, slab by slab.

    Parameters
    ----------
    path
        MRC file with instances, 0 = background.

    Returns
    -------
    pandas.DataFrame
        One row per instance, by its number: ``label``, ``area`` (voxels) and ``bbox-0`` to
        ``bbox-5`` (first voxel and one past the last, z y x each).

    Raises
    ------
    MaskError
        When the numbers are negative, fractional or not finite.
    """
    labels = mapped_volume(path)
    parts = [
        _measured(checked_labels(labels[part], path), part.start) for part in slabs(labels.shape)
    ]
    numbers, areas, bounds = (np.concatenate([part[n] for part in parts]) for n in range(3))
    found, row = np.unique(numbers, return_inverse=True)
    area = np.bincount(row, weights=areas, minlength=len(found)).astype(np.int64)
    first = np.full((len(found), 3), np.iinfo(np.int64).max)
    end = np.zeros((len(found), 3), np.int64)
    np.minimum.at(first, row, bounds[:, :3])
    np.maximum.at(end, row, bounds[:, 3:])
    columns = {"label": found, "area": area}
    columns |= {f"bbox-{n}": column for n, column in enumerate([*first.T, *end.T])}
    return pd.DataFrame(columns)


def _measured(
    slab: NDArray[np.int64], start: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Numbers, voxels and bounds `(n, 6)` of the instances in a slab that begins at `start`."""
    renumbered, number_of = fastremap.renumber(slab, preserve_zero=True)
    measured = cc3d.statistics(renumbered, no_slice_conversion=True)
    present = np.flatnonzero(measured["voxel_counts"][1:]) + 1
    original = {new: old for old, new in number_of.items()}
    numbers = np.array([original[index] for index in present.tolist()], np.int64)
    # As the library has them: first and last voxel of each axis in turn.
    bounds = measured["bounding_boxes"][present].astype(np.int64).reshape(-1, 3, 2)
    bounds[:, 0] += start
    boxes = np.concatenate([bounds[:, :, 0], bounds[:, :, 1] + 1], axis=1)
    return numbers, measured["voxel_counts"][present].astype(np.int64), boxes
