"""The cores of the instances, found on all levels of distance in one pass.

Raise a level step by step through the distance map: what is connected above it falls into parts,
and parts vanish. A part that vanishes as a whole is the core of an instance, as large as it was on
the last level it reached. With every voxel numbered by the highest level it reaches, these cores
are the plateaus of one number that no higher number touches: no level needs a pass of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryosiam_engine.components import CONNECTIVITY
from cryosiam_engine.separation.heights import Heights
from cryosiam_engine.separation.regions import (
    Progress,
    bricks,
    for_each,
    grown,
    inside,
    silent,
    whole,
)
from cryosiam_engine.tiling import Region


class Markers(NamedTuple):
    """The numbered cores of the instances.

    Attributes
    ----------
    volume
        Number of the core at every voxel of the foreground, else 0; uint32 `(z, y, x)`.
    n_markers
        How many cores there are. One that lies wholly outside the foreground keeps its number.
    """

    volume: NDArray[np.uint32]
    n_markers: int


def level_numbers(
    heights: Heights,
    levels: list[float],
    shape: tuple[int, ...],
    threads: int,
    progress: Progress,
) -> NDArray[np.unsignedinteger]:
    """Number every voxel by the highest level it reaches, from 1; 0 where it reaches none.

    Parameters
    ----------
    heights
        Gives the distances.
    levels
        Distances (voxels), ascending.
    shape
        Of the volume, `(z, y, x)`.
    threads
        How many parts of the volume are worked on at a time.
    progress
        Called with the number of finished parts and of all parts.
    """
    numbers = np.zeros(shape, np.min_scalar_type(len(levels)))

    def fill(box: Region) -> None:
        distances = heights(box)
        for level in levels:
            reached = distances >= level
            if not reached.any():
                break
            numbers[box] += reached

    for_each(fill, bricks(whole(shape)), threads, progress)
    return numbers


def find_markers(
    numbers: NDArray[np.unsignedinteger],
    mask: NDArray[np.uint8],
    threads: int,
    progress: Progress,
) -> Markers:
    """Find the cores: plateaus of a level number that touch (26 neighbours) no higher number.

    They are numbered by level, those of the lowest first; within a level in raster order of their
    first voxel.

    Parameters
    ----------
    numbers
        Level numbers `(z, y, x)`.
    mask
        1 in the foreground: elsewhere no core is marked.
    threads, progress
        As for :func:`level_numbers`.
    """
    plateaus, count = cc3d.connected_components(
        numbers, connectivity=CONNECTIVITY, return_N=True, out_dtype=np.uint32
    )
    level = np.zeros(count + 1, numbers.dtype)
    is_core = np.ones(count + 1, bool)
    limits = whole(mask.shape)

    def inspect(box: Region) -> None:
        here, ids = numbers[box], plateaus[box]
        if here.any():
            level[ids] = here
            around = grown(box, 1, limits)
            highest = ndimage.maximum_filter(numbers[around], size=3, mode="nearest")
            is_core[ids[highest[inside(box, around)] > here]] = False

    boxes = bricks(limits)
    for_each(inspect, boxes, threads, progress)
    is_core[0] = False
    cores = np.flatnonzero(is_core)
    new_ids = np.zeros(count + 1, np.uint32)
    # Plateaus are numbered in raster order already, which a stable sort keeps within a level.
    new_ids[cores[np.argsort(level[cores], kind="stable")]] = np.arange(1, len(cores) + 1)

    def renumber(box: Region) -> None:
        plateaus[box] = new_ids[plateaus[box]] * mask[box]

    for_each(renumber, boxes, threads, silent)
    return Markers(plateaus.astype(np.uint32, copy=False), len(cores))
