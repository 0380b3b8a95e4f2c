"""Cutting sub-tomograms: boxes around particles, padded and cropped to the network's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Box:
    """A box of voxels; it may reach beyond the tomogram.

    Attributes
    ----------
    start, stop
        First voxel and the one after the last, along (z, y, x).
    """

    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        """Voxels along (z, y, x)."""
        z, y, x = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index; only of use where it lies in the tomogram."""
        z, y, x = map(slice, self.start, self.stop)
        return z, y, x

    def grown(self, margin: int, shape: Sequence[int]) -> Box:
        """The box with `margin` voxels more on each side, as far as a tomogram `shape` reaches."""
        z0, y0, x0 = (max(0, start - margin) for start in self.start)
        z1, y1, x1 = (min(n, stop + margin) for stop, n in zip(self.stop, shape, strict=True))
        return Box((z0, y0, x0), (z1, y1, x1))

    def lies_in(self, shape: Sequence[int]) -> bool:
        """Whether the box holds voxels and all of them are those of a tomogram `shape`."""
        axes = zip(self.start, self.stop, shape, strict=True)
        return all(0 <= start < stop <= n for start, stop, n in axes)


def cubes_around(centers: NDArray[np.float64], edge: int) -> NDArray[np.int64]:
    """First voxels of the cubes around particle centres.

    The voxel nearest to the centre (a half counts up) is the cube's middle: the one in the middle
    for an odd edge, the first of the upper half for an even one.

    Parameters
    ----------
    centers
        Voxel coordinates (z, y, x), `(n, 3)`; voxel i is around coordinate i.
    edge
        Voxels of a cube's edge.

    Returns
    -------
    numpy.ndarray
        `(n, 3)`; cubes of particles at a border begin or end outside the tomogram.
    """
    return np.floor(centers + 0.5).astype(np.int64) - edge // 2


def cut_patch(
    volume: NDArray[np.float32],
    box: Box,
    patch_size: Shape,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Cut a box out of a tomogram, and pad or crop it to the size that the network gets.

    Per axis: a box smaller than the patch comes to its middle, with zeros on both sides (the
    odd one after it); of a larger box of n voxels, q of them are taken from n // 2 - q // 2 on.
    Voxels of the box outside the tomogram are 0. Only the patch is held, however large the box.

    Parameters
    ----------
    volume
        Preprocessed tomogram `(z, y, x)`.
    box
        What is cut.
    patch_size
        Voxels of the patch along (z, y, x).
    mask
        Boolean, of the box's shape: the other voxels are set to 0.

    Returns
    -------
    numpy.ndarray
        float32, of shape `patch_size`.
    """
    patch = np.zeros(patch_size, np.float32)
    placed = [
        _placement(*axis)
        for axis in zip(box.start, box.stop, patch_size, volume.shape, strict=True)
    ]
    source = tuple(of_volume for of_volume, _ in placed)
    target = tuple(of_patch for _, of_patch in placed)
    patch[target] = volume[source]
    if mask is not None:
        of_box = tuple(
            slice(s.start - start, s.stop - start)
            for s, start in zip(source, box.start, strict=True)
        )
        patch[target] *= mask[of_box]
    return patch


def _placement(start: int, stop: int, wanted: int, n_voxels: int) -> tuple[slice, slice]:
    """Along one axis: the voxels of the tomogram, and where they go in the patch."""
    length = stop - start
    first = start + max(length // 2 - wanted // 2, 0)
    padding = max(wanted - length, 0) // 2
    kept = min(length, wanted)
    low = min(max(first, 0), n_voxels)
    high = max(low, min(first + kept, n_voxels))
    return slice(low, high), slice(low - first + padding, high - first + padding)
