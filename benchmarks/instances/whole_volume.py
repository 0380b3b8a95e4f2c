"""The separation as the original's sequence of whole-volume operations, to compare with.

Written from a description of what the original computes, with the libraries that it uses: SciPy,
scikit-image, ITK's bilateral filter, python-elf. Every step works on the whole volume.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from cryosiam_engine.separation import SeparationSettings
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.filters import gaussian
from skimage.measure import label
from skimage.segmentation import join_segmentations, watershed

Volume = NDArray[np.float32]
SMOOTHING = 0.5
LONGEST = 5.0


class Stages(dict[str, float]):
    """Seconds by the name of the stage."""

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add the time spent inside."""
        started = time.perf_counter()
        yield
        self[name] = self.get(name, 0.0) + time.perf_counter() - started


def whole_volume(
    foreground: Volume,
    distances: Volume,
    boundaries: Volume,
    settings: SeparationSettings,
    boundary_bias: float,
) -> tuple[NDArray[np.integer], NDArray[np.integer], Stages]:
    """Instances (z, y, x) before and after the multicut, and where the time went."""
    stages = Stages()
    with stages.measured("bilateral filter"):
        filtered = bilateral(boundaries)  # always, whether or not it is used
    with stages.measured("smoothing"):
        used = gaussian(distances, sigma=SMOOTHING)
        if settings.threshold_foreground < 1:
            foreground = gaussian(foreground, sigma=SMOOTHING)
        mask = foreground >= settings.threshold_foreground
        used[used < 0] = 0
        used[~mask] = 0
    if settings.distance_type:
        with stages.measured("distance transform"):
            euclidean = gaussian(np.minimum(distance_transform_edt(mask), LONGEST), SMOOTHING)
            used = (used + euclidean) / 2 if settings.distance_type == 1 else euclidean
    with stages.measured("markers"):
        markers = find_markers(used, settings.min_center_distance, settings.max_center_distance)
    with stages.measured("watershed"):
        regions = watershed(-used, markers, mask=mask)
    with stages.measured("multicut"):
        instances = joined(regions.astype(np.uint32), filtered, boundary_bias)
    return regions, instances, stages


def bilateral(boundaries: Volume) -> Volume:
    """ITK's bilateral filter of the boundary map."""
    import itk

    image = itk.image_from_array(boundaries)
    filtered = itk.bilateral_image_filter(image, domain_sigma=1.0, range_sigma=0.1)
    return itk.array_from_image(filtered)


def find_markers(used: NDArray[np.floating], low: float, high: float) -> NDArray[np.integer]:
    """Level by level: what vanishes at the next level is a marker with its present extent."""
    current = label(used >= low)
    if low == high:
        return current
    markers, count = np.zeros(used.shape, np.int64), 0
    for level in np.arange(low + 0.5, high + 0.5, 0.5):
        above = used >= level
        vanished = np.setdiff1d(np.unique(current), np.unique(current[above]))
        vanished = vanished[vanished > 0]
        names = np.zeros(current.max() + 1, np.int64)
        names[vanished] = np.arange(count + 1, count + len(vanished) + 1)
        count += len(vanished)
        markers += names[current]
        current = label(above)
    names = np.arange(current.max() + 1) + count
    names[0] = 0
    return markers + names[current]


def joined(regions: NDArray[np.uint32], filtered: Volume, bias: float) -> NDArray[np.integer]:
    """Join regions by the multicut of their adjacency graph, the background being a region."""
    from elf.segmentation import features, multicut

    graph = features.compute_rag(regions)
    mean = features.compute_boundary_mean_and_length(graph, regions, filtered)[:, 0]
    costs = multicut.transform_probabilities_to_costs(mean, beta=bias)
    clusters = multicut.multicut_kernighan_lin(graph, costs)
    projected = features.project_node_labels_to_pixels(graph, regions, clusters)
    background = projected == clusters[0]
    projected[background] = 0
    return join_segmentations(projected, np.where(background, regions, 0))
