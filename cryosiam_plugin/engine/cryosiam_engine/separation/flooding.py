"""The watershed: pieces of foreground between several cores are divided among them."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

# The public function copies each array up to three times, which a piece as large as the tomogram
# cannot afford. This is what it calls.
from skimage.segmentation._watershed_cy import watershed_raveled

from cryosiam_engine.separation.heights import Heights
from cryosiam_engine.separation.pieces import INNER, Pieces
from cryosiam_engine.separation.regions import bricks, for_each, grown, inside, silent, whole
from cryosiam_engine.tiling import Region

#: Voxels that are searched at a time for where the flood starts.
_CHUNK = 1_000_000


class Basin:
    """One box made ready for the flood: voxels to be flooded, and the cores it starts from.

    The flood takes the voxel with the largest distance next, of equals the one it met first. Which
    of the voxels it starts from comes first among equals is an accident of the queue, which depends
    on everything in the tomogram. Most pieces come out the same in any order.

    Parameters
    ----------
    pieces
        Where everything lies.
    heights
        Gives the distances.
    piece
        The number of the piece to flood; None floods all pieces, and starts from all voxels of the
        cores.
    box
        Where the piece lies. Without it the flood runs in the volume of the pieces itself: no
        copy, but nothing else may use that volume meanwhile.
    threads
        How many parts of the distance map are computed at a time.
    """

    def __init__(
        self,
        pieces: Pieces,
        heights: Heights,
        piece: int | None = None,
        box: Region | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self._everything = piece is None
        self._offset = pieces.last_number
        limits = whole(pieces.volume.shape)
        self._box = limits if box is None else grown(box, 1, limits)
        self._volume = pieces.volume[self._box]
        self._open = np.zeros([n + 2 for n in self._volume.shape], np.int8)
        self._open[INNER] = (
            self._volume > pieces.n_markers if piece is None else self._volume == piece
        )
        if box is None:
            self._labels = pieces.framed
            self._close_labels()
        else:
            self._labels = np.zeros(self._open.shape, np.int32)
            np.copyto(self._labels[INNER], self._volume, where=self._volume <= pieces.n_markers)
        self._image = np.zeros(self._open.shape, np.float64)
        self._fill_image(heights, threads)
        z, y, x = (step // self._image.itemsize for step in self._image.strides)
        self._steps = np.array([-z, -y, -x, x, y, z], np.intp)
        self._seeds = self._find_seeds()

    def flood(self) -> None:
        """Divide the open voxels among the cores, and note it in the volume of the pieces."""
        self._run()
        self._note()

    def flood_in_any_order(self) -> bool:
        """Flood, and tell whether the order among equal voxels of several cores is unimportant.

        Where there are equals, the flood is run with the cores in one order and in the opposite
        one. If the two differ, neither needs to be right.
        """
        tied = self._tied_seeds()
        if not tied.size:
            self.flood()
            return True
        image = self._image.reshape(-1)
        values = image[tied]
        ranks = np.unique(self._labels.reshape(-1)[tied], return_inverse=True)[1] + 1
        digests = set()
        for order in (ranks, ranks.max() + 1 - ranks):
            self._close_labels()
            # The smallest differences there are: nothing but equals changes places.
            image[tied] = values - order * np.spacing(np.abs(values))
            self._run()
            digests.add(hashlib.blake2b(self._labels.data).digest())
        self._note()
        return len(digests) == 1

    def _close_labels(self) -> None:
        np.copyto(self._labels, 0, where=self._open.view(bool))

    def _note(self) -> None:
        for part in bricks(whole(self._volume.shape)):
            labels = self._labels[INNER][part]
            reached = (self._open[INNER][part] > 0) & (labels > 0)
            self._volume[part][reached] = labels[reached] + self._offset

    def _fill_image(self, heights: Heights, threads: int) -> None:
        image, is_open = self._image[INNER], self._open[INNER]

        def fill(part: Region) -> None:
            # Memory that is not touched is not taken.
            if self._everything or is_open[inside(grown(part, 1, self._box), self._box)].any():
                np.negative(heights(part), out=image[inside(part, self._box)])

        if threads == 1:
            for part in bricks(self._box):
                fill(part)
        else:
            for_each(fill, bricks(self._box), threads, silent)

    def _find_seeds(self) -> NDArray[np.intp]:
        labels, is_open = self._labels.reshape(-1), self._open.reshape(-1)
        frame = int(self._steps[-1])
        found = []
        for start in range(frame, len(labels) - frame, _CHUNK):
            stop = min(start + _CHUNK, len(labels) - frame)
            seeds = labels[start:stop] > 0
            if not self._everything:
                # A core's voxel with nothing to flood beside it would only fill the queue.
                beside = np.zeros(len(seeds), np.int8)
                for step in self._steps:
                    beside |= is_open[start + step : stop + step]
                seeds &= beside > 0
            found.append(np.flatnonzero(seeds) + start)
        return np.concatenate(found)

    def _tied_seeds(self) -> NDArray[np.intp]:
        """Give the voxels of cores that another core has an equal of."""
        values = self._image.reshape(-1)[self._seeds]
        labels = self._labels.reshape(-1)[self._seeds]
        order = np.lexsort((labels, values))
        values, labels = values[order], labels[order]
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        sizes = np.diff(np.r_[starts, len(values)])
        mixed = labels[starts] != labels[starts + sizes - 1]
        return self._seeds[order[np.repeat(mixed, sizes)]]

    def _run(self) -> None:
        watershed_raveled(
            self._image.reshape(-1),
            self._seeds,
            self._steps,
            self._open.reshape(-1),
            self._steps[:2:-1].copy(),
            0.0,
            self._labels.reshape(-1),
            False,
        )
