"""Estimate of the memory that a tile's activations take."""

from __future__ import annotations

from cryosiam_engine.networks.description import HEADS, BackboneDescription, ModelDescription

#: While a convolution runs, its output exists twice: in the layout that its kernel prefers and in
#: the tensor's (measured on CPUs; the workspace of GPU kernels is of that order too).
_OUTPUT_COPIES = 2


def feature_bytes_per_voxel(description: ModelDescription, element_size: int) -> float:
    """Estimate the peak memory of a tile's features per input voxel (batch 1).

    Counts the channels that are alive at the same time at the moments that can be the worst:
    the maps of full resolution decide, the coarser ones add little.

    Parameters
    ----------
    description
        Of a model with a dense backbone.
    element_size
        Bytes of one activation: 4 for float32, 2 for half precision.
    """
    backbone = description.backbone
    if not isinstance(backbone, BackboneDescription):
        raise TypeError(f"a {description.task} model is not applied to tiles")
    stem = backbone.in_channels + _OUTPUT_COPIES * backbone.num_filters[0]
    after_stem = max(_encoder(backbone), _decoder(backbone))
    # A max pooling leaves one voxel in 2^dims for everything after the stem.
    share = 1.0 if backbone.no_max_pool else 0.5**backbone.spatial_dims
    return element_size * max(stem, after_stem * share)


def head_bytes_per_voxel(description: ModelDescription, element_size: int) -> float:
    """Estimate the peak memory per voxel while the heads run, their outputs included.

    Parameters
    ----------
    description
        Of a model with heads.
    element_size
        Bytes of one activation.
    """
    if description.head is None:
        return 0
    first, second = description.head.filters
    out = description.head.out_channels
    layers = max(
        _OUTPUT_COPIES * first,
        first + _OUTPUT_COPIES * second,
        second + _OUTPUT_COPIES * out,
    )
    # Finished outputs are turned into float32, and into probabilities beside that.
    finished = out * len(HEADS[description.task])
    return element_size * (layers + finished) + 8 * out


def _encoder(backbone: BackboneDescription) -> int:
    planes, finest = backbone.num_filters[0], backbone.stage_channels[0]
    # Stem's output, main path and shortcut of a block of the first stage.
    first_stage = planes + (1 + _OUTPUT_COPIES) * finest
    if backbone.num_layers[0] > 1:
        first_stage += planes
    # The first convolution of the second stage is still of full resolution.
    second_stage = finest + _OUTPUT_COPIES * backbone.num_filters[1]
    return max(first_stage, second_stage)


def _decoder(backbone: BackboneDescription) -> int:
    width = backbone.fpn_channels
    lateral = backbone.stage_channels[0] + (_OUTPUT_COPIES + 1) * width
    projector = (2 + _OUTPUT_COPIES) * width
    # Lateral maps of all levels, the weighted sum, its summands, and the next layer's output.
    fusion = 5 * width if backbone.decoder_type == "bifpn" else 0
    return max(lateral, projector, fusion)
