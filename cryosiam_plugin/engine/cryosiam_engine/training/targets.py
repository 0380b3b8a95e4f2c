"""What the heads shall learn, made from labels."""

from __future__ import annotations

import math
from typing import Any

import edt
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import expand_labels, find_boundaries

#: Signed distances are learned up to this many voxels from a surface.
LARGEST_DISTANCE = 5.0
#: Voxels around a patch that the targets of its instances depend on: particles grow by one voxel.
INSTANCE_MARGIN = int(LARGEST_DISTANCE) + 1


def distance_margin(limit: float) -> int:
    """Voxels around a patch that its distances up to `limit` depend on."""
    return math.ceil(limit) + 1


def class_distances(
    labels: NDArray[Any], n_channels: int, limit: float = LARGEST_DISTANCE
) -> NDArray[np.float32]:
    """Signed distance in voxels to every class, positive inside, exact up to a limit.

    Parameters
    ----------
    labels
        `(z, y, x)`.
    n_channels
        Classes, the background included. With one, its distance is that to the background, as in
        the distance maps on the disk.
    limit
        Voxels; more than the largest distance that is learned where things are made smaller
        afterwards.

    Returns
    -------
    numpy.ndarray
        `(n_channels, z, y, x)`, within ±`limit`.
    """
    distances = np.empty((n_channels, *labels.shape), np.float32)
    for channel in range(n_channels):
        inside = labels == channel
        if inside.all() or not inside.any():
            # No surface in sight.
            distances[channel] = limit if inside.any() else -limit
            continue
        np.subtract(edt.edt(inside), edt.edt(~inside), out=distances[channel])
    return np.clip(distances, -limit, limit, out=distances)


def scaled_distances(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip signed distances to ±5 voxels and scale them to ±1."""
    scaled: NDArray[np.float32] = np.clip(distances / np.float32(LARGEST_DISTANCE), -1, 1)
    return scaled


def instance_targets(labels: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """Foreground, boundaries and distances of numbered particles.

    Particles are expanded by one voxel first. A boundary is every voxel that has a neighbour
    (sharing a face) with another number. Distances are to the particle's own surface, positive
    inside and negative outside, in voxels and within ±:data:`LARGEST_DISTANCE`.

    Parameters
    ----------
    labels
        Instances `(z, y, x)`, 0 = background.

    Returns
    -------
    dict
        ``foreground``, ``boundaries``, ``distances``, each `(z, y, x)`.
    """
    expanded = expand_labels(labels, 1)
    boundaries = find_boundaries(expanded, connectivity=1, mode="thick")
    inside = np.ascontiguousarray(expanded.astype(np.uint32))
    if inside.any():
        distances = edt.edt(inside) - edt.edt(inside == 0)
    else:
        distances = np.full(labels.shape, -LARGEST_DISTANCE)
    return {
        "foreground": (expanded > 0).astype(np.float32),
        "boundaries": boundaries.astype(np.float32),
        "distances": np.clip(distances, -LARGEST_DISTANCE, LARGEST_DISTANCE).astype(np.float32),
    }
