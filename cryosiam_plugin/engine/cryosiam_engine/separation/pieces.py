"""The parts of the foreground between the cores of instances, and whose they can become."""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.separation.markers import Markers
from cryosiam_engine.separation.regions import Progress, bricks, for_each, silent, whole
from cryosiam_engine.tiling import Region

#: What lies within a frame of one voxel.
INNER = (slice(1, -1),) * 3

_SHIFT = np.uint64(32)


@dataclass
class Pieces:
    """The foreground outside all cores, in pieces that are connected by faces.

    A flood from the cores never passes from one piece into another without passing a core, so that
    every piece can be flooded by itself. A piece that touches one core only needs no flood.

    Attributes
    ----------
    framed
        int32 `(z + 2, y + 2, x + 2)`: 0 in the background, the number of the core in a core, and
        in the pieces the piece's number, which is larger than that of any core. A frame of one
        voxel of background keeps floods from running off the edges.
    n_markers
        The highest number of a core; pieces are numbered from the next one on.
    owners
        For each piece the core that it belongs to, 0 for none or not known yet.
    contested
        Numbers of the pieces that touch several cores.
    boxes
        Where each of the contested pieces lies.
    """

    framed: NDArray[np.int32]
    n_markers: int
    owners: NDArray[np.uint32]
    contested: list[int]
    boxes: list[Region]

    @property
    def volume(self) -> NDArray[np.int32]:
        """What :attr:`framed` holds within its frame, `(z, y, x)`; a view."""
        return self.framed[INNER]

    @property
    def last_number(self) -> int:
        """The highest number of a piece; a flooded voxel holds this plus its core's number."""
        return self.n_markers + len(self.owners)


def find_pieces(
    mask: NDArray[np.uint8],
    markers: Markers,
    threads: int,
    progress: Progress,
) -> Pieces:
    """Find the pieces between the cores and the cores they touch.

    Parameters
    ----------
    mask
        1 in the foreground, else 0; `(z, y, x)`.
    markers
        The cores.
    threads
        How many parts of the volume are worked on at a time.
    progress
        Called with the number of finished parts and of all parts.
    """
    n_markers = markers.n_markers
    boxes = bricks(whole(mask.shape))
    framed, corners = _number_pieces(mask, markers, threads)
    volume = framed[INNER]
    contacts = for_each(lambda box: _contacts(volume, n_markers, box), boxes, threads, progress)
    keys = np.unique(np.concatenate(contacts))
    touching, first, counts = np.unique(keys >> _SHIFT, return_index=True, return_counts=True)
    owners = np.zeros(len(corners), np.uint32)
    single = counts == 1
    owners[touching[single]] = keys[first[single]] & np.uint64(0xFFFFFFFF)
    contested = touching[~single].astype(np.int64)
    return Pieces(
        framed,
        n_markers,
        owners[1:],
        (contested + n_markers).tolist(),
        [_box(corner) for corner in corners[contested]],
    )


def _number_pieces(
    mask: NDArray[np.uint8], markers: Markers, threads: int
) -> tuple[NDArray[np.int32], NDArray[np.integer]]:
    """Number cores and pieces in one volume with a frame.

    Returns
    -------
    framed : NDArray[np.int32]
        As in :class:`Pieces`.
    corners : NDArray[np.integer]
        First and last index of each piece along each axis, `(n + 1, 6)`; the first row is the
        background's.
    """
    rest = (markers.volume == 0).view(np.uint8)
    rest &= mask
    pieces = cc3d.connected_components(rest, connectivity=6, out_dtype=np.uint32)
    del rest
    framed = np.zeros([n + 2 for n in mask.shape], np.int32)
    volume = framed[INNER]

    def merge(box: Region) -> None:
        here = pieces[box]
        volume[box] = np.where(here > 0, here + np.uint32(markers.n_markers), markers.volume[box])

    for_each(merge, bricks(whole(mask.shape)), threads, silent)
    return framed, cc3d.statistics(pieces, no_slice_conversion=True)["bounding_boxes"]


def _box(corners: NDArray[np.integer]) -> Region:
    z0, z1, y0, y1, x0, x1 = (int(value) for value in corners)
    return slice(z0, z1 + 1), slice(y0, y1 + 1), slice(x0, x1 + 1)


def _contacts(volume: NDArray[np.int32], n_markers: int, box: Region) -> NDArray[np.uint64]:
    """Find which piece (counted from 1) touches which core, by the faces that begin in a box.

    Each contact once: the piece in the upper 32 bits, the core in the lower.
    """
    found = [np.zeros(0, np.uint64)]
    around = tuple(slice(side.start, side.stop + 1) for side in box)
    crop = volume[around]
    if crop.max() <= n_markers:
        return found[0]
    for axis in range(crop.ndim):
        inner = tuple(
            slice(0, side.stop - side.start) if other != axis else slice(None)
            for other, side in enumerate(box)
        )
        values = np.moveaxis(crop[inner], axis, 0)
        low, high = np.minimum(values[:-1], values[1:]), np.maximum(values[:-1], values[1:])
        contact = (low > 0) & (low <= n_markers) & (high > n_markers)
        piece = (high[contact] - n_markers).astype(np.uint64)
        found.append(np.unique(piece << _SHIFT | low[contact].astype(np.uint64)))
    return np.concatenate(found)
