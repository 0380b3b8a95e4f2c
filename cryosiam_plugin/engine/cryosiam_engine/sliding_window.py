"""Run a network over a whole tomogram, tile by tile, in the memory that there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryosiam_engine.device import free_memory, is_out_of_memory
from cryosiam_engine.errors import DeviceError
from cryosiam_engine.networks.inference import InferenceNetwork
from cryosiam_engine.tiling import (
    AxisRule,
    Region,
    Shape,
    Tile,
    TilePlan,
    auto_plan,
    reference_plan,
)

logger = logging.getLogger(__name__)

Tiling = Literal["reference", "auto"]

#: Called with the voxels decided and the network's outputs there, ``(channels, z, y, x)``.
Consumer = Callable[[Region, Mapping[str, Tensor]], None]

#: Called with the number of tiles finished and the number of all tiles.
Progress = Callable[[int, int], None]

#: Share of the GPU's free memory that the tiles may plan with; the estimate is not exact.
GPU_SHARE = 0.8

#: A volume stays on the GPU while it takes no more than this share of the free memory.
RESIDENT_SHARE = 0.25

#: On a CPU a tile's activations share the host's memory with the tomogram: they may take this
#: many bytes plus half the tomogram's own, so that a run stays near 3 tomograms + 1.5 GB.
CPU_BYTES = 700_000_000


class TileTooLargeError(Exception):
    """A single tile does not fit in the device's memory."""


@dataclass
class SlidingWindow:
    """A network, and how to lay its tiles over tomograms.

    Attributes
    ----------
    network
        What is run; already on `device` in `dtype`.
    device, dtype
        Where and in which precision it computes.
    tiling
        ``reference`` for the original's tiles, ``auto`` for the largest that fit.
    batch_size
        Tiles per batch at most. Lowered when memory runs out, for this and later tomograms.
    max_voxels
        Voxels per tile at most in ``auto``; None until memory has run out once.
    """

    network: InferenceNetwork
    device: torch.device
    dtype: torch.dtype
    tiling: Tiling
    batch_size: int
    max_voxels: int | None = None

    @torch.inference_mode()
    def run(
        self,
        volume: NDArray[np.float32],
        heads: Collection[str],
        consume: Consumer,
        *,
        needed: NDArray[np.generic] | None = None,
        progress: Progress = lambda done, total: None,
    ) -> TilePlan:
        """Predict the whole tomogram; every needed voxel reaches `consume` at least once.

        When memory runs out the tiles are made smaller and the tomogram is started again, so
        `consume` must be able to see a voxel twice (the later value is the right one).

        Parameters
        ----------
        volume
            Preprocessed tomogram (z, y, x).
        heads
            Names of the network's outputs to compute; the others cost nothing.
        consume
            Receives each tile's kept region and its outputs (channels, z, y, x) on the device.
        needed
            Mask (z, y, x); tiles that decide only voxels where it is 0 are not computed.
        progress
            Told how many tiles are finished.

        Raises
        ------
        DeviceError
            When not even the smallest tile fits.
        """
        while True:
            plan = self.plan(volume.shape)
            tiles = [t for t in plan.tiles if needed is None or np.any(needed[t.keep])]
            try:
                self._run_tiles(volume, plan, tiles, heads, consume, progress)
            except TileTooLargeError:
                self._shrink_tiles(plan)
            else:
                return plan

    def plan(self, shape: Shape) -> TilePlan:
        """The tiles for a tomogram of this shape."""
        if self.tiling == "reference":
            return reference_plan(shape, self._patch_size())
        voxels = self.max_voxels or self._affordable_voxels(shape)
        return auto_plan(shape, self._axis_rules(shape), voxels)

    def _patch_size(self) -> Shape:
        z, y, x = self.network.patch_size
        return (1, y, x) if self.network.spatial_dims == 2 else (z, y, x)

    def _axis_rules(self, shape: Shape) -> list[AxisRule]:
        """At least a quarter of the original's tile as margin, and the whole receptive field."""
        alignment = self.network.alignment
        field = max(self.network.receptive_field)
        rules = []
        for size, patch in zip(shape, self.network.patch_size, strict=True):
            margin = -(-max(patch // 4, field) // alignment) * alignment
            rules.append(AxisRule(margin, alignment, smallest=min(patch, size)))
        if self.network.spatial_dims == 2:
            rules[0] = AxisRule(margin=0, alignment=1, smallest=1)
        return rules

    def _affordable_voxels(self, shape: Shape) -> int:
        free = free_memory(self.device)
        if self.device.type == "cpu":
            budget = min(CPU_BYTES + 2.0 * float(np.prod(shape)), 0.5 * free)
        else:
            budget = GPU_SHARE * free
        return int(budget / self.network.bytes_per_voxel(self.dtype.itemsize))

    def _shrink_tiles(self, plan: TilePlan) -> None:
        """Halve the tiles after memory ran out, or give up with a remedy."""
        too_large = (
            f"One tile of {plan.tile_shape} voxels does not fit in the memory of {self.device}."
        )
        if self.tiling == "reference":
            raise DeviceError(too_large, remedy="Use --tiling auto: it can make the tiles smaller.")
        now = int(np.prod(plan.tile_shape))
        smaller = auto_plan(plan.shape, self._axis_rules(plan.shape), now // 2)
        if smaller.tile_shape == plan.tile_shape:
            raise DeviceError(
                too_large,
                remedy="Free the memory that other programs use, take a device with more of it, "
                "or use --device cpu.",
            )
        self.max_voxels = now // 2
        logger.warning(
            "Out of memory on %s with tiles of %s voxels: going on with %s.",
            self.device,
            plan.tile_shape,
            smaller.tile_shape,
        )

    def _run_tiles(
        self,
        volume: NDArray[np.float32],
        plan: TilePlan,
        tiles: Sequence[Tile],
        heads: Collection[str],
        consume: Consumer,
        progress: Progress,
    ) -> None:
        source = _TileSource(volume, plan, self.device, self.dtype)
        done = 0
        progress(done, len(tiles))
        while done < len(tiles):
            batch = tiles[done : done + self.batch_size]
            try:
                outputs = self._forward(source.read(batch), batch, heads)
                for tile, of_tile in zip(batch, outputs, strict=True):
                    consume(tile.keep, of_tile)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink_batch(len(batch), error)
                continue
            done += len(batch)
            progress(done, len(tiles))

    def _shrink_batch(self, tried: int, error: BaseException) -> None:
        # The failed tensors are still referenced by the traceback's frames.
        error.__traceback__ = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            raise TileTooLargeError from error
        self.batch_size = tried // 2
        logger.warning(
            "Out of memory on %s with %d tiles at once: going on with %d.",
            self.device,
            tried,
            self.batch_size,
        )

    def _forward(
        self, batch: Tensor, tiles: Sequence[Tile], heads: Collection[str]
    ) -> Iterator[dict[str, Tensor]]:
        """Run the network; its heads see only what is kept, plus their own context."""
        flat = self.network.spatial_dims == 2
        sections = batch.shape[2]
        features = self.network.features(_sections_as_batch(batch) if flat else batch)
        features = _batch_as_sections(features, sections) if flat else features
        kept = _union([tile.local_keep for tile in tiles])
        margin = self.network.head_margin
        context = tuple(
            slice(max(0, k.start - (0 if flat and axis == 0 else margin)), k.stop + margin)
            for axis, k in enumerate(kept)
        )
        features = features[(slice(None), slice(None), *context)]
        inputs = _sections_as_batch(features) if flat else features
        results = self.network.heads(inputs, heads)
        if flat:
            results = {n: _batch_as_sections(r, features.shape[2]) for n, r in results.items()}
        return self._split(results, tiles, context)

    def _split(
        self, results: Mapping[str, Tensor], tiles: Sequence[Tile], context: tuple[slice, ...]
    ) -> Iterator[dict[str, Tensor]]:
        for index, tile in enumerate(tiles):
            region = tuple(
                slice(k.start - c.start, k.stop - c.start)
                for k, c in zip(tile.local_keep, context, strict=True)
            )
            yield {
                name: result[index][(slice(None), *region)].float()
                for name, result in results.items()
            }


class _TileSource:
    """Cuts tiles out of a tomogram that lies on the device, or on the host if it is too large."""

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
        if device.type == "cuda" and volume.nbytes < RESIDENT_SHARE * free_memory(device):
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


def _union(regions: Sequence[Region]) -> Region:
    """The smallest region that holds all of them."""
    z, y, x = (
        slice(min(r[axis].start for r in regions), max(r[axis].stop for r in regions))
        for axis in range(3)
    )
    return z, y, x


def _sections_as_batch(volumes: Tensor) -> Tensor:
    """(b, c, z, y, x) to (b * z, c, y, x): a 2D network sees sections one by one."""
    b, c, z, y, x = volumes.shape
    return volumes.transpose(1, 2).reshape(b * z, c, y, x)


def _batch_as_sections(sections: Tensor, depth: int) -> Tensor:
    """Undo :func:`_sections_as_batch` for volumes of `depth` sections."""
    n, c, y, x = sections.shape
    return sections.reshape(n // depth, depth, c, y, x).transpose(1, 2)
