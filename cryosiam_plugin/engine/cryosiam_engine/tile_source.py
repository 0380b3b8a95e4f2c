"""Tiles of a tomogram as batches for a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryosiam_engine.device import free_memory
from cryosiam_engine.tiling import Shape, Tile, TilePlan

#: A volume stays on the GPU while it takes no more than this share of the free memory.
RESIDENT_SHARE = 0.25


def fits_beside_tiles(n_bytes: int, device: torch.device) -> bool:
    """Whether a volume of so many bytes may lie on the device while tiles are computed there."""
    return device.type == "cpu" or n_bytes < RESIDENT_SHARE * free_memory(device)


class TileSource:
    """Cuts tiles out of a tomogram that lies on the device, or on the host if it is too large.

    Parameters
    ----------
    volume
        The tomogram (z, y, x).
    plan
        Tile shape, and what a tile sees beyond the tomogram.
    device, dtype
        Where the tiles are wanted, and as what.
    """

    def __init__(
        self,
        volume: NDArray[np.float32],
        plan: TilePlan,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        padding = [max(0, t - s) for s, t in zip(volume.shape, plan.tile_shape, strict=True)]
        if plan.wrap and any(padding):
            volume = np.pad(volume, [(0, extra) for extra in padding])
        self._volume = torch.from_numpy(volume)
        if fits_beside_tiles(volume.nbytes, device):
            self._volume = self._volume.to(device)
        self._plan = plan
        self._device = device
        self._dtype = dtype

    def read(self, tiles: Sequence[Tile]) -> Tensor:
        """A batch (b, 1, z, y, x) of tiles in the layout that convolutions are fastest in."""
        cut = self._wrapped if self._plan.wrap else self._zero_padded
        batch = torch.stack([cut(tile.start) for tile in tiles]).unsqueeze(1)
        return batch.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last_3d)

    def _zero_padded(self, start: Shape) -> Tensor:
        region = tuple(slice(s, s + t) for s, t in zip(start, self._plan.tile_shape, strict=True))
        inside = self._volume[region]
        if inside.shape == self._plan.tile_shape:
            return inside
        tile = self._volume.new_zeros(self._plan.tile_shape)
        tile[tuple(slice(0, n) for n in inside.shape)] = inside
        return tile

    def _wrapped(self, start: Shape) -> Tensor:
        tile = self._volume
        for axis, (first, length) in enumerate(zip(start, self._plan.tile_shape, strict=True)):
            size = self._volume.shape[axis]
            if first + length <= size:
                tile = tile.narrow(axis, first, length)
            else:
                indices = torch.arange(first, first + length, device=tile.device) % size
                tile = tile.index_select(axis, indices)
        return tile
