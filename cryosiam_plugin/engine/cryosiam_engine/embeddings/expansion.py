"""Instances grown into the background around them, block by block instead of as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import expand_labels

from cryosiam_engine.embeddings.patches import Box

#: Edge of the blocks in voxels. The distance transform takes about 60 bytes per voxel of a block.
BLOCK_EDGE = 128


def own_voxels(
    instances: NDArray[np.integer], label: int, box: Box, distance: float
) -> NDArray[np.bool_]:
    """The voxels of one instance in a box, after every instance has grown.

    Parameters
    ----------
    instances
        Labels `(z, y, x)`, 0 = background.
    label
        The instance.
    box
        Where to look; it lies in the volume.
    distance
        As for :func:`expanded`.

    Returns
    -------
    numpy.ndarray
        Boolean, of the box's shape.
    """
    own = np.zeros(box.shape, bool)
    for block in blocks(box):
        around = block.grown(int(distance), instances.shape)
        if (instances[around.slices] == label).any():
            part = tuple(
                slice(a - start, b - start)
                for a, b, start in zip(block.start, block.stop, box.start, strict=True)
            )
            own[part] = expanded(instances, block, distance) == label
    return own


def expanded(instances: NDArray[np.integer], block: Box, distance: float) -> NDArray[np.integer]:
    """Labels of one block after every instance has grown into the background.

    A background voxel takes the label of the nearest instance voxel if that is at most `distance`
    away. Equal to ``skimage.segmentation.expand_labels`` of the whole volume, also in which
    of several nearest voxels counts: that is decided by the voxels that the margin holds.

    Parameters
    ----------
    instances
        Labels `(z, y, x)`, 0 = background.
    block
        What is wanted; it lies in the volume.
    distance
        Voxels, Euclidean; below 1 nothing grows.

    Returns
    -------
    numpy.ndarray
        Of the block's shape.
    """
    if distance < 1:
        return instances[block.slices]
    around = block.grown(int(distance), instances.shape)
    grown = expand_labels(instances[around.slices], distance)
    z, y, x = (
        slice(a - start, b - start)
        for a, b, start in zip(block.start, block.stop, around.start, strict=True)
    )
    return grown[z, y, x]


def blocks(box: Box, edge: int | None = None) -> Iterator[Box]:
    """Divide a box into blocks of at most `edge` voxels along each axis, in raster order."""
    step = edge or BLOCK_EDGE
    ranges = [range(a, b, step) for a, b in zip(box.start, box.stop, strict=True)]
    for z, y, x in itertools.product(*ranges):
        stop = _lower((z + step, y + step, x + step), box.stop)
        yield Box((z, y, x), stop)


def _lower(one: Sequence[int], other: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = map(min, one, other)
    return z, y, x


def expand_all(instances: NDArray[np.integer], distance: float) -> NDArray[np.integer]:
    """Grow every instance of a whole volume, as :func:`expanded`, into a second volume."""
    if distance < 1:
        return instances
    grown = np.empty_like(instances)
    for block in blocks(Box((0, 0, 0), instances.shape)):
        grown[block.slices] = expanded(instances, block, distance)
    return grown
