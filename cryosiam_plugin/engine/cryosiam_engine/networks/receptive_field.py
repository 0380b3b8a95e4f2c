"""How far an output voxel looks: which input voxels can change it, exactly."""

from __future__ import annotations

from collections.abc import Callable

from cryosiam_engine.networks.description import BackboneDescription, ModelDescription

#: First and last voxel of a range along one axis.
Interval = tuple[int, int]


def alignment(backbone: BackboneDescription) -> int:
    """Multiple that tile starts and sizes must have, so that tiles agree with the whole (voxels).

    The coarsest map's voxel must lie on the same input voxels in every tile.
    """
    coarsest = 8 if backbone.decoder_type == "fpn" else 16
    return coarsest * output_stride(backbone)


def output_stride(backbone: BackboneDescription) -> int:
    """Input voxels per output voxel along an axis."""
    return 1 if backbone.no_max_pool else 2


def head_margin(description: ModelDescription) -> int:
    """Voxels of context that the heads need on each side; 0 without heads."""
    return 0 if description.head is None else 3 * (description.head.kernel_size // 2)


def receptive_field(description: ModelDescription) -> tuple[int, int]:
    """Reach of one output voxel along an axis.

    Parameters
    ----------
    description
        Of a model with a dense backbone.

    Returns
    -------
    tuple of int
        The most input voxels below and above its own place that an output voxel depends on.
        Interpolation makes the two differ, and they vary with the place relative to the
        coarsest map; these are the maxima.
    """
    backbone = description.backbone
    if not isinstance(backbone, BackboneDescription):
        raise TypeError(f"a {description.task} model has no output voxels")
    margin = head_margin(description)
    stride = output_stride(backbone)
    below = above = 0
    for place in range(alignment(backbone)):
        low, high = _needed_input(backbone, (place - margin, place + margin))
        below = max(below, place * stride - low)
        above = max(above, high - place * stride)
    return below, above


def _needed_input(backbone: BackboneDescription, output: Interval) -> Interval:
    decoder = _fpn_levels if backbone.decoder_type == "fpn" else _bifpn_levels
    levels = decoder(backbone, output)
    needed = levels.pop()
    for stage in range(3, -1, -1):
        for block in reversed(range(backbone.num_layers[stage])):
            first = block == 0
            # Two 3-convolutions in a basic block, the second always of stride 1.
            if backbone.block_type == "basic":
                needed = _grown(needed, 1)
            needed = _strided(needed) if first and stage > 0 else _grown(needed, 1)
        if stage > 0:
            needed = _union(needed, levels.pop())
    if not backbone.no_max_pool:
        needed = _strided(needed)
    return _grown(needed, 3)


def _fpn_levels(backbone: BackboneDescription, output: Interval) -> list[Interval]:
    levels = [_grown(output, int(backbone.add_fpn_later_conv))]
    while len(levels) < 4:
        levels.append(_interpolated(levels[-1]))
    return levels


def _bifpn_levels(backbone: BackboneDescription, output: Interval) -> list[Interval]:
    levels = _needed_down([output])
    for _ in range(backbone.fpn_layers - 1):
        levels = _needed_down(_needed_up(levels))
    coarsest = levels.pop()
    levels[-1] = _union(levels[-1], _strided(coarsest))
    return levels


def _needed_down(levels: list[Interval]) -> list[Interval]:
    """Five levels before the pass from coarse to fine, from (the finest of) those after it."""
    return _chained(levels, lambda finer: (finer[0] // 2, finer[1] // 2))


def _needed_up(levels: list[Interval]) -> list[Interval]:
    """Five levels before the pass from fine to coarse, from those after it."""
    coarse_first = levels[::-1]
    return _chained(coarse_first, lambda coarser: (2 * coarser[0], 2 * coarser[1]))[::-1]


def _chained(levels: list[Interval], step: Callable[[Interval], Interval]) -> list[Interval]:
    chained = [levels[0]]
    for number in range(1, 5):
        own = step(chained[-1])
        chained.append(_union(own, levels[number]) if number < len(levels) else own)
    return chained


def _union(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _grown(interval: Interval, radius: int) -> Interval:
    return interval[0] - radius, interval[1] + radius


def _strided(interval: Interval) -> Interval:
    """Input of a 3-convolution or pooling of stride 2."""
    return 2 * interval[0] - 1, 2 * interval[1] + 1


def _interpolated(interval: Interval) -> Interval:
    """Coarse voxels that linear interpolation by 2 reads (half-voxel centres)."""
    return (interval[0] - 1) // 2, (interval[1] - 1) // 2 + 1
