"""From the maps of the network to separated, numbered instances."""

from __future__ import annotations

import logging
import math

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.device import cpu_threads
from cryosiam_engine.separation.flooding import Basin
from cryosiam_engine.separation.foreground import foreground_mask
from cryosiam_engine.separation.heights import Heights
from cryosiam_engine.separation.markers import find_markers, level_numbers
from cryosiam_engine.separation.pieces import Pieces, find_pieces
from cryosiam_engine.separation.regions import (
    Progress,
    bricks,
    for_each,
    shape_of,
    silent,
    whole,
)
from cryosiam_engine.separation.settings import SeparationSettings
from cryosiam_engine.tiling import Region

logger = logging.getLogger(__name__)

#: Pieces of up to this many voxels never matter for the memory.
_SMALL_PIECE = 1_000_000

#: Largest share of the volume in cores for which the whole of it is flooded at once: each voxel
#: of a core takes about 100 bytes then. Volumes of up to so many voxels are always small enough.
_CORE_SHARE, _SMALL_VOLUME = 0.06, 2_000_000


def separate(
    foreground: NDArray[np.float32],
    distances: NDArray[np.float32] | None,
    settings: SeparationSettings,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.uint32]:
    """Separate the instances in the foreground, and number them.

    Cores of instances are where the distance to the particle's surface is largest; the rest of the
    foreground is divided among them by a watershed. The result is that of the computation on the
    whole volume, number by number, but works on small parts at a time. Where two cores have voxels
    of exactly equal distance, and it depends on the order of the two how the foreground between
    them is divided, everything is flooded at once to keep that order. This takes one thread, and
    happens with Euclidean distances of particles of equal, symmetric shape. Above 6 % of the volume
    in cores the memory does not allow it: some voxels halfway between such cores (in the worst
    case, equal balls, two in ten thousand) then may go to the other one.

    Parameters
    ----------
    foreground
        Probability to belong to an instance, `(z, y, x)`. Not changed.
    distances
        Predicted distance (voxels) to the surface, `(z, y, x)`. Not changed; may be None for
        `distance_type` 2.
    settings
        Thresholds and the kind of distance.
    threads
        How many parts are worked on at a time; None for as many as the process may use. The
        result does not depend on it.
    progress
        Called with what is done and with what there is to do, in steps of equal size.

    Returns
    -------
    NDArray[np.uint32]
        Number of the instance `(z, y, x)`, 0 = background. Numbers may be missing: of instances
        whose core lies wholly outside the foreground.

    Raises
    ------
    ValueError
        When `distances` is needed and absent, or has another shape.
    """
    mask = foreground_mask(
        foreground, settings.threshold_foreground, threads or cpu_threads(), _stage(progress, 0, 10)
    )
    return separate_in(mask, distances, settings, threads=threads, progress=progress)


def separate_in(
    mask: NDArray[np.uint8],
    distances: NDArray[np.float32] | None,
    settings: SeparationSettings,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.uint32]:
    """Separate the instances in a foreground that :func:`foreground_mask` found.

    As :func:`separate` for those who do not want to hold the foreground's probabilities meanwhile.

    Parameters
    ----------
    mask
        1 in the foreground, else 0; `(z, y, x)`.
    distances, settings, threads, progress
        As in :func:`separate`.

    Raises
    ------
    ValueError
        When `distances` is needed and absent, or has another shape.
    """
    if settings.distance_type == 2:
        distances = None
    elif distances is None or distances.shape != mask.shape:
        raise ValueError("distances of the foreground's shape are needed for this distance_type")
    threads = threads or cpu_threads()
    heights = Heights(mask, distances, settings.distance_type)
    everywhere = settings.levels_reached_everywhere(heights.dtype)
    levels = settings.levels()[everywhere:]
    numbers = level_numbers(heights, levels, mask.shape, threads, _stage(progress, 10, 50))
    if everywhere and not numbers.any():
        progress(100, 100)
        # The one core is everything.
        return mask.astype(np.uint32)
    markers = find_markers(numbers, mask, threads, _stage(progress, 50, 60))
    del numbers
    pieces = find_pieces(mask, markers, threads, _stage(progress, 60, 70))
    del markers
    _divide(pieces, heights, threads, _stage(progress, 70, 100))
    progress(100, 100)
    return _numbered(pieces, threads)


def _stage(progress: Progress, start: int, stop: int) -> Progress:
    """Give the progress of a step that goes from `start` to `stop` per cent of everything."""

    def report(done: int, total: int) -> None:
        progress(start + (stop - start) * done // max(total, 1), 100)

    return report


def _divide(pieces: Pieces, heights: Heights, threads: int, progress: Progress) -> None:
    """Flood the contested pieces, each by itself if that cannot make a difference."""
    limit = max(pieces.volume.size // (2 * threads), _SMALL_PIECE)
    jobs = list(zip(pieces.contested, pieces.boxes, strict=True))
    small = [job for job in jobs if math.prod(shape_of(job[1])) <= limit]
    large = [piece for piece, box in jobs if math.prod(shape_of(box)) > limit]
    can_flood_all = _can_flood_all(pieces)
    order_matters = False

    def divide(basin: Basin) -> None:
        nonlocal order_matters
        if not can_flood_all:
            basin.flood()
        elif not basin.flood_in_any_order():
            order_matters = True

    def divide_small(job: tuple[int, Region]) -> None:
        if not order_matters:
            divide(Basin(pieces, heights, *job))

    for piece in large:
        if not order_matters:
            divide(Basin(pieces, heights, piece, threads=threads))
    for_each(divide_small, small, threads, progress)
    if order_matters:
        logger.debug("Cores of exactly equal distance: everything is flooded at once.")
        Basin(pieces, heights, threads=threads).flood()


def _can_flood_all(pieces: Pieces) -> bool:
    volume = pieces.volume
    if volume.size <= _SMALL_VOLUME:
        return True
    cores = sum(
        np.count_nonzero((volume[box] > 0) & (volume[box] <= pieces.n_markers))
        for box in bricks(whole(volume.shape))
    )
    return bool(cores <= _CORE_SHARE * volume.size)


def _numbered(pieces: Pieces, threads: int) -> NDArray[np.uint32]:
    """Give every voxel of core and piece its final number."""
    volume = pieces.volume
    cores = np.arange(pieces.n_markers + 1, dtype=np.uint32)
    final = np.concatenate([cores, pieces.owners, cores[1:]])

    labels = np.empty(volume.shape, np.uint32)

    def renumber(box: Region) -> None:
        labels[box] = final[volume[box]]

    for_each(renumber, bricks(whole(volume.shape)), threads, silent)
    return labels
