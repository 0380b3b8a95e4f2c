"""Pairs of views of one place in a tomogram that have voxels in common, for dense pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cryosiam_engine.config.train import DrawnPatches, TrainConfig
from cryosiam_engine.embeddings.patches import Shape
from cryosiam_engine.training.geometry import PROBABILITY, draw_geometry
from cryosiam_engine.training.grey_values import GreyValues, normalised, scaled
from cryosiam_engine.training.order import SampleKey
from cryosiam_engine.training.samples import Places
from cryosiam_engine.training.volumes import IMAGE, NOISY, TrainingVolume

#: A view and the part of it that the other one shows too, in every sample.
VIEWS = (("view_1", "shared_1"), ("view_2", "shared_2"))

#: A noisy image stands for the clean one in one of so many views.
_NOISY = 3


@dataclass(frozen=True)
class Window:
    """Where a view lies in the block that both views are cut from.

    Attributes
    ----------
    start
        Its first voxel (z, y, x).
    flips
        Axes (0, 1, 2) that are reversed afterwards.
    """

    start: Shape
    flips: tuple[int, ...]

    def view(self, block: NDArray[Any], size: Shape) -> NDArray[Any]:
        """Cut the view, of `size` voxels (z, y, x), from the block."""
        place = tuple(slice(a, a + n) for a, n in zip(self.start, size, strict=True))
        return np.flip(block[place], self.flips)

    def shared_with(self, other: Window, size: Shape) -> NDArray[np.int64]:
        """The voxels of this view that the other one shows too.

        Parameters
        ----------
        other
            The other view's window, not further away than `size`.
        size
            Voxels of a view.

        Returns
        -------
        numpy.ndarray
            `(3, 3)`: for each axis of the view the first voxel, the end, and -1 where the axis is
            reversed, else 1.
        """
        shared = np.empty((3, 3), np.int64)
        for axis, length in enumerate(size):
            distance = other.start[axis] - self.start[axis]
            first, end = max(0, distance), min(length, length + distance)
            is_reversed = axis in self.flips
            if is_reversed:
                first, end = length - end, length - first
            shared[axis] = first, end, -1 if is_reversed else 1
        return shared


def take_shared(maps: Tensor, shared: Tensor) -> Tensor:
    """Take the shared voxels out of what was computed from a view.

    Of both views the result has the same size, and its voxels show the same voxels of the tomogram.

    Parameters
    ----------
    maps
        `(channels, z, y, x)`, voxel by voxel as the view.
    shared
        As :meth:`Window.shared_with` gives it.
    """
    places = shared.tolist()
    part = maps[(slice(None), *(slice(first, end) for first, end, _ in places))]
    return part.flip([axis + 1 for axis, (_, _, step) in enumerate(places) if step < 0])


def largest_block(patches: DrawnPatches) -> Shape:
    """Voxels (z, y, x) around two views that are as far apart as they may be."""
    z, y, x = (size + _furthest(size, patches) for size in patches.patch_size)
    return z, y, x


def _furthest(size: int, patches: DrawnPatches) -> int:
    return int(size * (1 - patches.min_view_overlap))


def draw_windows(
    rng: np.random.Generator, patches: DrawnPatches, *, flip: bool
) -> tuple[Window, Window, Shape]:
    """Draw two windows, and the size of the smallest block that holds them.

    Parameters
    ----------
    rng
        Of this one sample.
    patches
        Size of a view, and how much of it is shared at least along each axis.
    flip
        Whether axes are reversed, in each view by itself.
    """
    apart = [int(rng.integers(_furthest(size, patches) + 1)) for size in patches.patch_size]
    swapped = rng.integers(2, size=3).tolist()
    windows = []
    for own in (0, 1):
        z, y, x = (step * (side ^ own) for step, side in zip(apart, swapped, strict=True))
        flips = tuple(axis for axis in range(3) if flip and rng.random() < PROBABILITY)
        windows.append(Window((z, y, x), flips))
    z, y, x = (size + step for size, step in zip(patches.patch_size, apart, strict=True))
    return windows[0], windows[1], (z, y, x)


@dataclass(frozen=True)
class OverlappingViews(Dataset[dict[str, Tensor]]):
    """Two views of each place, shifted, flipped and varied in their grey values independently.

    Turning, zooming and bending are common to both, so that voxels of one view are voxels of the
    other, and not between them. Like other samples, a pair depends on seed, epoch and its number
    alone.

    Attributes
    ----------
    config
        Of the training.
    volumes
        Where views come from.
    places
        Which places.
    varied
        True for training: others in every epoch. False for validation: the views differ, but
        stay the same.
    """

    config: TrainConfig
    volumes: Sequence[TrainingVolume]
    places: Places
    varied: bool

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        """Views, float32 `(1, z, y, x)`, and their shared parts, int64 `(3, 3)`."""
        rng = np.random.default_rng([self.config.seed, int(self.varied), *key])
        number, centre = self.places.place(key, rng)
        patches, transforms = self.config.patches, self.config.transforms
        first, second, shape = draw_windows(rng, patches, flip=transforms.flip)
        common = draw_geometry(rng, transforms.model_copy(update={"flip": False}), shape)
        arrays = self.volumes[number].cut(centre, common.source_shape(shape))
        arrays = {name: scaled(array, patches) for name, array in arrays.items()}
        blocks = common.apply(arrays, shape)
        sample = {}
        pairs = ((first, second), (second, first))
        for (view, shared), (own, other) in zip(VIEWS, pairs, strict=True):
            sample[view] = self._view(own, blocks, rng)
            sample[shared] = torch.from_numpy(own.shared_with(other, patches.patch_size))
        return sample

    def _view(
        self, window: Window, blocks: dict[str, NDArray[Any]], rng: np.random.Generator
    ) -> Tensor:
        is_noisy = NOISY in blocks and rng.integers(_NOISY) == 0
        patch = window.view(blocks[NOISY if is_noisy else IMAGE], self.config.patches.patch_size)
        varying = GreyValues(self.config.transforms)
        patch = varying.rescaled(varying.filtered(patch, rng), rng)
        patch = normalised(patch, self.config.patches)
        return torch.from_numpy(np.ascontiguousarray(patch, dtype=np.float32))[None]
