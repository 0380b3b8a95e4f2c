"""Particle centres: the centroids of each class's eroded components, all classes in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cryosiam_engine.components import Components, label_components
from cryosiam_engine.errors import ConfigurationError

#: Columns of a table of centres. Areas are voxel counts, centroids voxel indices (z, y, x).
CENTER_COLUMNS = ("label", "area", "centroid-0", "centroid-1", "centroid-2")


def particle_centers(
    labels: np.ndarray,
    *,
    n_classes: int,
    min_voxels: float | Sequence[float] = 100,
    confidence: np.ndarray | None = None,
) -> dict[int, pd.DataFrame]:
    """Find the particles of each class and their centres in one semantic segmentation.

    Each class is eroded by one voxel with the cross of six face neighbours (what lies outside
    the volume counts as inside the particle), and each 26-connected component that is left is a
    particle if it is large enough. The size is that of the *eroded* component, as the original
    computes it: objects at most two voxels thick vanish whatever `min_voxels` says.

    Parameters
    ----------
    labels
        Integer labels `(z, y, x)`, 0 = background.
    n_classes
        Number of classes with the background; classes 1 to `n_classes - 1` are searched, and
        class 1 always (a binary model has one output channel).
    min_voxels
        A particle has more than this many voxels after the erosion: one number for all classes,
        or one per class, the first of which is for class 1.
    confidence
        Probability (%) of each voxel's class `(z, y, x)`; gives each particle a score.

    Returns
    -------
    dict[int, pandas.DataFrame]
        For each class the columns `label` (number of the component in its class, from 1 in
        raster order, counted before the small ones are left out), `area` (voxels after erosion,
        float) and `centroid-0`, `centroid-1`, `centroid-2` (mean voxel index in z, y, x); with
        `confidence` also `score`, its mean over the component as a fraction.

    Raises
    ------
    ConfigurationError
        When `min_voxels` is a list with fewer entries than there are classes.
    """
    last_class = max(n_classes, 2) - 1
    limits = _limits_per_class(min_voxels, last_class)
    components = label_components(_erode_classes(labels, last_class))
    scores = None if confidence is None else _mean_per_component(components, confidence) / 100
    return {
        class_index: _centers_of_class(components, class_index, limits[class_index - 1], scores)
        for class_index in range(1, last_class + 1)
    }


def _mean_per_component(components: Components, values: np.ndarray) -> np.ndarray:
    """Mean of `values` over each component; plane by plane, because weights become float64."""
    sums = np.zeros(len(components.voxels))
    for component_plane, plane in zip(components.volume, values, strict=True):
        sums += np.bincount(component_plane.ravel(), plane.ravel(), minlength=len(sums))
    return sums / np.maximum(components.voxels, 1)


def _limits_per_class(min_voxels: float | Sequence[float], last_class: int) -> list[float]:
    if isinstance(min_voxels, (int, float)):
        return [min_voxels] * last_class
    if len(min_voxels) < last_class:
        raise ConfigurationError(
            f"min_voxels has {len(min_voxels)} entries for {last_class} particle classes.",
            remedy="Give one number for all classes, or one per class from class 1 on "
            "(the background has none).",
        )
    return list(min_voxels)


def _erode_classes(labels: np.ndarray, last_class: int) -> np.ndarray:
    """Keep the label of voxels whose six face neighbours within the volume carry it too.

    Eroding each class on its own gives the same: classes do not overlap, so a neighbour of
    another class is a neighbour outside. Works plane by plane.
    """
    eroded = np.zeros(labels.shape, dtype=np.min_scalar_type(last_class))
    for z, plane in enumerate(labels):
        interior = (plane > 0) & (plane <= last_class)
        for other in (z - 1, z + 1):
            if 0 <= other < len(labels):
                interior &= plane == labels[other]
        interior[1:] &= plane[1:] == plane[:-1]
        interior[:-1] &= plane[:-1] == plane[1:]
        interior[:, 1:] &= plane[:, 1:] == plane[:, :-1]
        interior[:, :-1] &= plane[:, :-1] == plane[:, 1:]
        eroded[z][interior] = plane[interior]
    return eroded


def _centers_of_class(
    components: Components, class_index: int, limit: float, scores: np.ndarray | None
) -> pd.DataFrame:
    members = np.flatnonzero(components.classes == class_index)
    numbers = np.arange(1, len(members) + 1)
    kept = components.voxels[members] > limit
    chosen = members[kept]
    table = pd.DataFrame({"label": numbers[kept], "area": components.voxels[chosen].astype(float)})
    table[list(CENTER_COLUMNS[2:])] = components.centroids[chosen]
    if scores is not None:
        table["score"] = scores[chosen]
    return table
