"""Balls drawn into a mask, one for each particle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BallMask:
    """A mask of balls.

    Attributes
    ----------
    labels
        `(z, y, x)`: 0 background, else the class of the nearest particle.
    clipped
        Balls of which a part is outside the tomogram.
    outside
        Balls that are outside altogether.
    """

    labels: NDArray[np.unsignedinteger]
    clipped: int
    outside: int


def ball_mask(
    shape: Sequence[int],
    centres: NDArray[np.float64],
    classes: NDArray[np.int64],
    radii: Mapping[int, float],
) -> BallMask:
    """Draw a ball at every particle: the voxels at most a radius away from the centre.

    Centres are truncated to whole voxels, as the original does, so that all balls of a class are
    alike. Where balls overlap, a voxel belongs to the nearest centre; of equally near ones to
    that of the lower class.

    Parameters
    ----------
    shape
        Voxels of the tomogram along (z, y, x).
    centres
        `(n, 3)`, z, y, x in voxels.
    classes
        `(n,)`, from 1 on.
    radii
        Of each class, in voxels.

    Returns
    -------
    BallMask
        Labels in uint8 for a single class 1, else in uint16.
    """
    several = bool((classes != 1).any()) or len(radii) > 1
    labels: NDArray[np.unsignedinteger] = np.zeros(shape, np.uint16 if several else np.uint8)
    largest = max(radii.values(), default=0.0)
    nearest = np.zeros(0)
    if several:
        dtype = np.uint16 if largest < 2**8 else np.uint32
        nearest = np.full(shape, np.iinfo(dtype).max, dtype)
    clipped = outside = 0
    whole = np.trunc(centres).astype(np.int64)
    # The lower class first: a later ball must be strictly nearer to take a voxel.
    for index in np.argsort(classes, kind="stable"):
        radius, centre = radii[int(classes[index])], whole[index]
        reach = int(radius)
        low = np.clip(centre - reach, 0, shape)
        high = np.clip(centre + reach + 1, 0, shape)
        squares = _squares(low, high, centre)
        ball = squares <= radius**2
        if not ball.any():
            outside += 1
            continue
        clipped += bool((centre - reach < 0).any() or (centre + reach >= shape).any())
        box = tuple(map(slice, low, high))
        if several:
            ball &= squares < nearest[box]
            nearest[box][ball] = squares[ball]
        labels[box][ball] = classes[index]
    return BallMask(labels, clipped, outside)


def _squares(
    low: NDArray[np.int64], high: NDArray[np.int64], centre: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Squared distances to the centre, of the voxels of a box."""
    z, y, x = np.ogrid[tuple(map(slice, low, high))]
    squares: NDArray[np.int64] = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2
    return squares
