"""A network on one batch of tiles: features at once, heads slab by slab."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import Tensor

from cryosiam_engine.networks.inference import InferenceNetwork
from cryosiam_engine.tiling import Region, Tile

#: Heads run on at least so many sections at once: each slab computes some of its neighbours'.
SMALLEST_SLAB = 8


@dataclass(frozen=True)
class TileNetwork:
    """Runs an inference network on tiles, whether it is made for volumes or for sections.

    Attributes
    ----------
    network
        What is run.
    head_bytes
        Memory that the heads may take, as estimated.
    element_size
        Bytes of one activation.
    """

    network: InferenceNetwork
    head_bytes: float
    element_size: int

    def features(self, batch: Tensor) -> Tensor:
        """Embed every voxel of a batch of tiles ``(b, 1, z, y, x)``."""
        if self.network.spatial_dims == 3:
            return self.network.features(batch)
        sections = self.network.features(_sections_as_batch(batch))
        return _batch_as_sections(sections, batch.shape[2])

    def outputs(
        self, features: Tensor, tile: Tile, names: Collection[str]
    ) -> Iterator[tuple[Region, dict[str, Tensor]]]:
        """Run the heads on what a tile decides, slab by slab, each with its own context.

        Many classes at full resolution take far more memory than the features do, so they never
        exist for a whole tile.

        Parameters
        ----------
        features
            Of this tile alone, ``(1, channels, z, y, x)``.
        tile
            Which voxels are kept.
        names
            Heads to run.

        Yields
        ------
        tuple
            Voxels of the tomogram, and the heads' float32 outputs there ``(channels, z, y, x)``.
        """
        margins = [self.network.head_margin] * 3
        if self.network.spatial_dims == 2:
            margins[0] = 0
        for part in self._slabs(tile.local_keep):
            context = [
                slice(max(0, p.start - m), p.stop + m) for p, m in zip(part, margins, strict=True)
            ]
            inner = [
                slice(p.start - c.start, p.stop - c.start)
                for p, c in zip(part, context, strict=True)
            ]
            seen = features[(slice(None), slice(None), *context)]
            outputs = {
                name: output[0][(slice(None), *inner)].float()
                for name, output in self._heads(seen, names).items()
            }
            first = tile.start[0]
            yield (
                (slice(part[0].start + first, part[0].stop + first), *tile.keep[1:]),
                outputs,
            )

    def _heads(self, features: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        if self.network.spatial_dims == 3:
            return self.network.heads(features, names)
        outputs = self.network.heads(_sections_as_batch(features), names)
        return {n: _batch_as_sections(out, features.shape[2]) for n, out in outputs.items()}

    def _slabs(self, region: Region) -> Iterator[Region]:
        z, y, x = region
        margin = 2 * self.network.head_margin
        per_section = (y.stop - y.start + margin) * (x.stop - x.start + margin)
        per_section *= self.network.head_bytes_per_voxel(self.element_size)
        depth = max(SMALLEST_SLAB, int(self.head_bytes / per_section) - margin)
        for start in range(z.start, z.stop, depth):
            yield slice(start, min(start + depth, z.stop)), y, x


def _sections_as_batch(volumes: Tensor) -> Tensor:
    """(b, c, z, y, x) to (b * z, c, y, x): a 2D network sees sections one by one."""
    b, c, z, y, x = volumes.shape
    return volumes.transpose(1, 2).reshape(b * z, c, y, x)


def _batch_as_sections(sections: Tensor, depth: int) -> Tensor:
    """Undo :func:`_sections_as_batch` for volumes of `depth` sections."""
    n, c, y, x = sections.shape
    return sections.reshape(n // depth, depth, c, y, x).transpose(1, 2)
