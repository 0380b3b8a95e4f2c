"""Which networks there are, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Task = Literal["denoising", "semantic", "instance", "dense_simsiam", "embedding"]
BlockType = Literal["basic", "bottleneck"]
DecoderType = Literal["fpn", "bifpn"]

#: Per dense task: what a head computes, and the name of the head in the state dict. The first
#: head of each task occurs in no other task, so it tells the task of a checkpoint.
HEADS: dict[Task, dict[str, str]] = {
    "denoising": {"denoised": "cnn_head"},
    "semantic": {"logits": "semantic_head", "distances": "distance_head"},
    "instance": {
        "foreground": "foreground_head",
        "distances": "distance_head",
        "boundaries": "boundary_head",
    },
}

#: State-dict prefixes of the published files.
BACKBONE_PREFIX = "_model_backbone."
MODEL_PREFIX = "_model."


@dataclass(frozen=True)
class EncoderDescription:
    """The residual encoder and the widths of what follows its pooled output.

    Attributes
    ----------
    block_type
        ``'bottleneck'`` (1, 3, 1 convolutions, four-fold width) or ``'basic'`` (3, 3).
    spatial_dims
        3 for tomograms, 2 for slices.
    num_layers, num_filters
        Blocks and planes of each of the four stages.
    no_max_pool
        False: a max pooling after the stem halves every map.
    dim, pred_dim
        Width of the global embedding and of its predictor's hidden layer.
    """

    block_type: BlockType
    spatial_dims: int
    in_channels: int
    num_layers: tuple[int, ...]
    num_filters: tuple[int, ...]
    no_max_pool: bool
    dim: int
    pred_dim: int

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of the four stages' outputs."""
        expansion = 4 if self.block_type == "bottleneck" else 1
        return tuple(expansion * planes for planes in self.num_filters)


@dataclass(frozen=True)
class BackboneDescription(EncoderDescription):
    """The dense backbone: encoder, decoder to full resolution, and voxel-wise projector.

    Attributes
    ----------
    fpn_channels
        Width of the decoder and of the projector.
    dense_dim, dense_pred_dim
        Width of a voxel's embedding and of its predictor's hidden layer.
    include_levels_loss
        Projectors for the coarser maps exist (they serve pretraining only).
    add_fpn_later_conv
        A 3-convolution follows the sums of the FPN decoder.
    decoder_type, fpn_layers
        ``'fpn'``, or ``'bifpn'`` with that many blocks.
    """

    fpn_channels: int
    dense_dim: int
    dense_pred_dim: int
    include_levels_loss: bool = False
    add_fpn_later_conv: bool = False
    decoder_type: DecoderType = "fpn"
    fpn_layers: int = 2


@dataclass(frozen=True)
class HeadDescription:
    """The convolutional head(s) of a dense task: three convolutions each, the same for all.

    Attributes
    ----------
    filters
        Widths after the first and the second convolution.
    kernel_size
        Odd edge of the three kernels (voxels); they are padded to keep the size.
    out_channels
        Channels of each head's output (semantic: the number of classes).
    """

    filters: tuple[int, int]
    kernel_size: int
    out_channels: int


@dataclass(frozen=True)
class ModelDescription:
    """A whole checkpoint: its task, its networks and the tile size it was trained for.

    Attributes
    ----------
    task
        What the model does.
    backbone
        A :class:`BackboneDescription`, or for ``'embedding'`` an :class:`EncoderDescription`.
    head
        Present for denoising, semantic and instance models.
    patch_size
        Edges of a training patch (z, y, x), in voxels. Empty if the file does not tell, which
        only ``'dense_simsiam'`` and ``'embedding'`` models may do: nothing depends on it there.
    contrastive
        Embedding models: whether the file has the layout of the contrastively fine-tuned
        models, whose embedding is the normalised output of the predictor.
    """

    task: Task
    backbone: EncoderDescription
    head: HeadDescription | None
    patch_size: tuple[int, ...]
    contrastive: bool = False
