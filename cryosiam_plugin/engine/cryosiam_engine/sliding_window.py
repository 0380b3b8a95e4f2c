"""Run a network over a whole tomogram, tile by tile, in the memory that there is."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryosiam_engine.device import free_memory, is_out_of_memory, memory_share
from cryosiam_engine.errors import DeviceError
from cryosiam_engine.networks.inference import InferenceNetwork
from cryosiam_engine.tile_network import TileNetwork
from cryosiam_engine.tile_source import TileSource, fits_beside_tiles
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

#: Share of the tiles' memory that the heads may use: they run section by section of a tile.
HEAD_SHARE = 0.25

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

    def canvas(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A volume of zeros to stitch results into: on the device, so that it is never waited for.

        Parameters
        ----------
        shape
            (z, y, x), or (channels, z, y, x).
        dtype
            Of the results.

        Returns
        -------
        Tensor
            On the host if it would take too much of the device's memory.
        """
        fits = fits_beside_tiles(math.prod(shape) * dtype.itemsize, self.device)
        return torch.zeros(shape, dtype=dtype, device=self.device if fits else "cpu")

    def plan(self, shape: Shape) -> TilePlan:
        """The tiles for a tomogram of this shape."""
        if self.tiling == "reference":
            return reference_plan(shape, self._patch_size())
        affordable = (1 - HEAD_SHARE) * self._budget(shape)
        per_voxel = self.network.feature_bytes_per_voxel(self.dtype.itemsize)
        voxels = self.max_voxels or int(affordable / per_voxel)
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

    def _budget(self, shape: Shape) -> float:
        """Bytes that the activations of a batch may take."""
        free = free_memory(self.device)
        if self.device.type == "cpu":
            usual = CPU_BYTES + 2.0 * float(np.prod(shape))
            return min(memory_share() * usual, 0.5 * free)
        return GPU_SHARE * free

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
        network = TileNetwork(
            self.network, HEAD_SHARE * self._budget(plan.shape), self.dtype.itemsize
        )
        source = TileSource(volume, plan, self.device, self.dtype)
        done = 0
        progress(done, len(tiles))
        while done < len(tiles):
            batch = tiles[done : done + self.batch_size]
            try:
                features = network.features(source.read(batch))
                for tile, of_tile in zip(batch, features.split(1), strict=True):
                    for region, outputs in network.outputs(of_tile, tile, heads):
                        consume(region, outputs)
                del features, of_tile
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
