"""Connected components of label volumes: one labelling pass, memory of one integer volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import cc3d
import numpy as np

#: A component of 26-connectivity holds voxels that touch by a face, an edge or a corner.
CONNECTIVITY: Final = 26

#: The size that switches the filter of a class off.
KEEP_ALL = -1


class Components(NamedTuple):
    """The 26-connected components of a label volume; index 0 of each array is the background.

    Attributes
    ----------
    volume
        Component number of every voxel, `(z, y, x)`. The numbers run from 1 in raster order of
        each component's first voxel.
    voxels
        Voxel count of each component, `(n + 1,)`.
    centroids
        Mean voxel index `(z, y, x)` of each component, `(n + 1, 3)`. The background's may be NaN.
    classes
        The label that all voxels of the component carry, `(n + 1,)`.
    """

    volume: np.ndarray
    voxels: np.ndarray
    centroids: np.ndarray
    classes: np.ndarray


def label_components(labels: np.ndarray) -> Components:
    """Number the 26-connected components of all classes of a label volume at once.

    Voxels are of the same component when they are connected through voxels of the same label.
    Beside `labels` one integer volume is held, of 16 or 32 bits depending on the number of
    components.

    Parameters
    ----------
    labels
        Integer or boolean labels `(z, y, x)`, 0 = background.

    Returns
    -------
    Components
        The component volume with the size, centroid and class of each component.
    """
    # Boolean input would choose the library's binary algorithm, whose estimate of the number of
    # provisional labels is too small for flat volumes: it raises there.
    source = labels.view(np.uint8) if labels.dtype == bool else labels
    volume, count = cc3d.connected_components(source, connectivity=CONNECTIVITY, return_N=True)
    statistics = cc3d.statistics(volume, no_slice_conversion=True)
    classes = np.zeros(count + 1, dtype=source.dtype)
    for component_plane, label_plane in zip(volume, source, strict=True):
        classes[component_plane] = label_plane
    return Components(
        volume, statistics["voxel_counts"].astype(np.int64), statistics["centroids"], classes
    )


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keep the 26-connected component with the most voxels.

    Parameters
    ----------
    mask
        Boolean volume `(z, y, x)`.

    Returns
    -------
    np.ndarray
        Boolean volume `(z, y, x)`: the largest component; of equally large ones, the one whose
        first voxel comes first in raster order. An empty mask stays empty.
    """
    volume, count = cc3d.connected_components(
        mask.view(np.uint8), connectivity=CONNECTIVITY, return_N=True
    )
    if count == 0:
        return np.zeros(mask.shape, dtype=bool)
    voxels = cc3d.statistics(volume, no_slice_conversion=True)["voxel_counts"]
    return volume == 1 + int(np.argmax(voxels[1:]))


def remove_small_components(labels: np.ndarray, sizes: Sequence[int]) -> dict[int, int]:
    """Set components of at most a given size to background, class by class, in place.

    Parameters
    ----------
    labels
        Integer labels `(z, y, x)`, 0 = background. Changed in place.
    sizes
        For each class, from class 0, the voxel count up to which (inclusive) a 26-connected
        component is removed; -1 leaves the class as it is. The first entry is the background's
        and has no effect; classes beyond the end of `sizes` are left alone, and entries beyond
        the last class do no harm.

    Returns
    -------
    dict[int, int]
        Number of components removed, for each class that has a size.
    """
    limits = {c: size for c, size in enumerate(sizes) if c > 0 and size != KEEP_ALL}
    if not limits:
        return {}
    components = label_components(labels)
    doomed = np.zeros(components.voxels.shape, dtype=bool)
    removed = {}
    for class_index, size in limits.items():
        small = (components.classes == class_index) & (components.voxels <= size)
        removed[class_index] = int(np.count_nonzero(small))
        doomed |= small
    if doomed.any():
        for component_plane, label_plane in zip(components.volume, labels, strict=True):
            label_plane[doomed[component_plane]] = 0
    return removed
