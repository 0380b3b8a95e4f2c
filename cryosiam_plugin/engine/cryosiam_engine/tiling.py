"""Where the tiles of a tomogram lie and which voxels each of them decides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryosiam_engine.errors import ConfigurationError

Shape = tuple[int, int, int]
Region = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Tile:
    """One piece of the tomogram that the network sees at once.

    Attributes
    ----------
    start
        Index (z, y, x) of the tile's first voxel in the tomogram.
    keep
        The voxels of the tomogram that this tile decides. The rest of the tile is context.
    """

    start: Shape
    keep: Region

    @property
    def local_keep(self) -> Region:
        """`keep`, counted from the tile's own first voxel."""
        z, y, x = (
            slice(kept.start - start, kept.stop - start)
            for kept, start in zip(self.keep, self.start, strict=True)
        )
        return z, y, x


@dataclass(frozen=True)
class TilePlan:
    """The tiles of one tomogram; their `keep` regions cover it exactly once.

    Attributes
    ----------
    shape
        The tomogram's shape (z, y, x).
    tile_shape
        The shape (z, y, x) of every tile.
    tiles
        The tiles, x fastest.
    wrap
        Whether a tile that leaves the tomogram sees it continued from its beginning, as the
        original does, or zeros.
    """

    shape: Shape
    tile_shape: Shape
    tiles: tuple[Tile, ...]
    wrap: bool

    @property
    def computed_voxels(self) -> int:
        """Voxels that the network computes in all, context included."""
        return len(self.tiles) * math.prod(self.tile_shape)


@dataclass(frozen=True)
class AxisRule:
    """What the network demands of tiles along one axis.

    Attributes
    ----------
    margin
        Voxels of real context that every kept voxel has inside its tile, where the tomogram
        has them.
    alignment
        Tile starts and sizes are multiples of this, because the network's pooling grid is.
    smallest
        No tile is made smaller than this (the tomogram's own size apart).
    """

    margin: int
    alignment: int
    smallest: int


@dataclass(frozen=True)
class _AxisPiece:
    start: int
    keep: slice


def reference_plan(shape: Shape, patch_size: Shape) -> TilePlan:
    """Tiles as the original lays them: half overlapping, wrapped around at the end.

    Only tiles that decide a voxel are listed; the original computes a further 18 % and drops
    them.

    Parameters
    ----------
    shape
        Tomogram shape (z, y, x).
    patch_size
        Tile shape (z, y, x) from the checkpoint, each a multiple of 4.

    Raises
    ------
    ConfigurationError
        When a tile edge is no multiple of 4: quarter-tile margins would not be whole voxels.
    """
    if any(edge % 4 or edge < 4 for edge in patch_size):
        raise ConfigurationError(
            f"The model's patch size {patch_size} is not a multiple of 4.",
            remedy="Use --tiling auto, which does not depend on it.",
        )
    axes = [_reference_axis(size, edge) for size, edge in zip(shape, patch_size, strict=True)]
    return TilePlan(shape, patch_size, tuple(_combine(axes)), wrap=True)


def _reference_axis(size: int, patch: int) -> list[_AxisPiece]:
    step, margin = patch // 2, patch // 4
    last = max(0, (size - 1 - margin) // step)
    return [
        _AxisPiece(
            start=index * step,
            keep=slice(
                0 if index == 0 else index * step + margin,
                size if index == last else (index + 1) * step + margin,
            ),
        )
        for index in range(last + 1)
    ]


def auto_plan(shape: Shape, rules: Sequence[AxisRule], max_voxels: int) -> TilePlan:
    """The tiles of at most `max_voxels` voxels that compute the fewest voxels in all.

    Every tile has the same shape (a network is fastest when shapes repeat), starts on the
    network's pooling grid, and sees real data wherever the tomogram has any; beyond the
    tomogram's end it sees zeros.

    Parameters
    ----------
    shape
        Tomogram shape (z, y, x).
    rules
        One rule per axis, in the order (z, y, x).
    max_voxels
        The most voxels that fit in memory at once. When not even the smallest allowed tile is
        that small, the smallest allowed tile is taken.
    """
    choices = [_edge_choices(size, rule) for size, rule in zip(shape, rules, strict=True)]
    combinations = list(itertools.product(*choices))
    fitting = [edges for edges in combinations if math.prod(edges) <= max_voxels]
    if not fitting:
        fitting = [min(combinations, key=math.prod)]

    def cost(edges: tuple[int, ...]) -> tuple[int, int]:
        counts = (
            len(_auto_axis(size, rule, edge))
            for size, rule, edge in zip(shape, rules, edges, strict=True)
        )
        # Of equally expensive layouts the one with smaller tiles leaves more memory free.
        return math.prod(counts) * math.prod(edges), math.prod(edges)

    z, y, x = min(fitting, key=cost)
    axes = [
        _auto_axis(size, rule, edge)
        for size, rule, edge in zip(shape, rules, (z, y, x), strict=True)
    ]
    return TilePlan(shape, (z, y, x), tuple(_combine(axes)), wrap=False)


def _edge_choices(size: int, rule: AxisRule) -> list[int]:
    """Every tile edge worth trying along an axis, one for each number of tiles."""
    whole = _round_up(size, rule.alignment)
    smallest = _round_up(max(rule.smallest, 2 * rule.margin + rule.alignment), rule.alignment)
    edges = {whole}
    for count in itertools.count(2):
        inner = _round_up(math.ceil((whole - 2 * rule.margin) / count), rule.alignment)
        edge = inner + 2 * rule.margin
        if edge < smallest or inner < rule.alignment:
            break
        if edge < whole:
            edges.add(edge)
        if inner == rule.alignment:
            break
    if smallest < whole:
        edges.add(smallest)
    return sorted(edges)


def _auto_axis(size: int, rule: AxisRule, edge: int) -> list[_AxisPiece]:
    whole = _round_up(size, rule.alignment)
    if edge >= whole:
        return [_AxisPiece(0, slice(0, size))]
    inner = edge - 2 * rule.margin
    count = math.ceil((whole - 2 * rule.margin) / inner)
    return [
        _AxisPiece(
            # The last tile is moved back to end with the tomogram: real data, no padding.
            start=min(index * inner, whole - edge),
            keep=slice(
                0 if index == 0 else index * inner + rule.margin,
                size if index == count - 1 else (index + 1) * inner + rule.margin,
            ),
        )
        for index in range(count)
    ]


def _combine(axes: Sequence[Sequence[_AxisPiece]]) -> Iterator[Tile]:
    for z, y, x in itertools.product(*axes):
        yield Tile((z.start, y.start, x.start), (z.keep, y.keep, x.keep))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
