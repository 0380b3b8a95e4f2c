"""Boxes of a volume, and work on many of them at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.tiling import Region

#: Takes how much is done, and of how much.
Progress = Callable[[int, int], None]

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Side (voxels) of the bricks a volume is worked through in: halos cost little beside it, and what
#: is computed for one brick stays in the processor's cache.
BRICK = 64


def whole(shape: Sequence[int]) -> Region:
    """Give the box of a whole volume `(z, y, x)`."""
    z, y, x = (slice(0, n) for n in shape)
    return z, y, x


def bricks(box: Region) -> list[Region]:
    """Cut a box into bricks, in raster order; those at its end may be smaller."""
    axes = (
        [
            slice(start, min(start + BRICK, side.stop))
            for start in range(side.start, side.stop, BRICK)
        ]
        for side in box
    )
    z, y, x = axes
    return list(itertools.product(z, y, x))


def grown(box: Region, halo: int, limits: Region) -> Region:
    """Grow a box by `halo` voxels on every side, within the box `limits`."""
    z, y, x = (
        slice(max(side.start - halo, limit.start), min(side.stop + halo, limit.stop))
        for side, limit in zip(box, limits, strict=True)
    )
    return z, y, x


def inside(inner: Region, outer: Region) -> Region:
    """Give where the box `inner` lies in an array that holds the box `outer`."""
    z, y, x = (
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True)
    )
    return z, y, x


def shape_of(box: Region) -> tuple[int, int, int]:
    """Give the size `(z, y, x)` of a box."""
    z, y, x = (side.stop - side.start for side in box)
    return z, y, x


def occupied(mask: NDArray[Any], box: Region) -> Region | None:
    """Give the smallest box around what is not 0 in a box of `mask`; None if all is 0."""
    crop = mask[box]
    sides = []
    for axis, side in enumerate(box):
        others = tuple(other for other in range(crop.ndim) if other != axis)
        found = np.flatnonzero(crop.any(axis=others))
        if not found.size:
            return None
        sides.append(slice(side.start + int(found[0]), side.start + int(found[-1]) + 1))
    z, y, x = sides
    return z, y, x


def silent(done: int, total: int) -> None:
    """Take the progress of a step that takes no time to speak of."""


def for_each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    progress: Progress,
) -> list[Result]:
    """Call a function for every item, several at a time; the results keep the items' order.

    Parameters
    ----------
    function
        Must let other threads run while it computes, as NumPy and SciPy do.
    items
        What it is called with.
    threads
        How many calls run at a time.
    progress
        Called in this thread with the number of finished items and of all items.
    """
    todo = list(items)
    results: list[Result] = []
    with ThreadPoolExecutor(threads) as pool:
        for result in pool.map(function, todo):
            results.append(result)
            progress(len(results), len(todo))
    return results
