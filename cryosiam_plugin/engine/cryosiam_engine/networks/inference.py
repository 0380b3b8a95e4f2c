"""The part of a dense model that inference needs, arranged for speed and little memory."""

from __future__ import annotations

import copy
from collections.abc import Collection

from torch import Tensor, nn

from cryosiam_engine.networks import memory, receptive_field
from cryosiam_engine.networks.description import HEADS, BackboneDescription
from cryosiam_engine.networks.encoder import stage_maps
from cryosiam_engine.networks.folding import fold as fold_batch_norm
from cryosiam_engine.networks.heads import DenseModel


def prepare_for_inference(dense_model: DenseModel, *, fold: bool = True) -> InferenceNetwork:
    """Copy what inference needs of a dense model.

    Parameters
    ----------
    dense_model
        Stays as it is.
    fold
        Fold batch normalisation into the convolutions: faster, equal up to rounding.

    Returns
    -------
    InferenceNetwork
        In evaluation mode, without gradients.
    """
    network = InferenceNetwork(dense_model)
    if fold:
        fold_batch_norm(network)
    return network.eval().requires_grad_(False)


class InferenceNetwork(nn.Module):
    """Encoder, decoder, voxel projector and heads; make it with :func:`prepare_for_inference`.

    Tiles may have any size that is a multiple of `alignment`. For 2D models every ``z`` of the
    shapes below is absent.

    Parameters
    ----------
    dense_model
        What to copy from.

    Attributes
    ----------
    description
        Of the whole model.
    head_names
        Outputs that can be asked for.
    in_channels, out_channels
        Of the images, and of each head's output (semantic: the number of classes).
    spatial_dims
        3 for tomograms, 2 for slices.
    patch_size
        Edges of the patches the model was trained on (z, y, x), in voxels.
    head_margin
        Voxels of context that the heads need on each side.
    alignment
        Multiple (voxels) of tile starts and sizes for which tiles agree with each other.
    output_stride
        2 if the maps have half the images' size, else 1.
    receptive_field
        Most voxels below and above its own place that an output voxel depends on, heads included.
    """

    def __init__(self, dense_model: DenseModel) -> None:
        super().__init__()
        self.description = dense_model.description
        backbone = self.description.backbone
        head = self.description.head
        if head is None or not isinstance(backbone, BackboneDescription):  # for the type checker
            raise TypeError("a dense model has a dense backbone and heads")
        encoder = dense_model.backbone.encoder
        self._stem = copy.deepcopy(encoder.stem()).eval()
        self._stages = nn.ModuleList(copy.deepcopy(stage) for stage in encoder.stages()).eval()
        self._decoder = copy.deepcopy(dense_model.backbone.decoder).eval()
        self._decoder.drop_unused()
        self._projector = copy.deepcopy(dense_model.backbone.projector).eval()
        names = HEADS[self.description.task]
        self._heads = nn.ModuleDict(
            {name: copy.deepcopy(dense_model.head[module]) for name, module in names.items()}
        ).eval()
        self.head_names = tuple(names)
        self.in_channels = backbone.in_channels
        self.out_channels = head.out_channels
        self.spatial_dims = backbone.spatial_dims
        self.patch_size = self.description.patch_size
        self.head_margin = receptive_field.head_margin(self.description)
        self.alignment = receptive_field.alignment(backbone)
        self.output_stride = receptive_field.output_stride(backbone)
        self.receptive_field = receptive_field.receptive_field(self.description)

    def features(self, x: Tensor) -> Tensor:
        """Embed every voxel.

        Parameters
        ----------
        x
            Images, ``(b, in_channels, z, y, x)``, edges multiples of `alignment`.

        Returns
        -------
        Tensor
            ``(b, dense_dim, z, y, x)``, each edge divided by `output_stride`.
        """
        z: Tensor = self._projector(self._decoder(stage_maps(self._stem, [*self._stages], x)))
        return z

    def heads(self, z: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Compute raw outputs (no sigmoid, no softmax) of the named heads only.

        Parameters
        ----------
        z
            Voxel embeddings, whole or cropped; outputs within `head_margin` of a side that was
            cropped are not those of the whole.
        names
            Some of `head_names`.

        Returns
        -------
        dict
            Tensors ``(b, out_channels, z, y, x)`` by name.
        """
        return {name: self._heads[name](z) for name in names}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute all heads' raw outputs from images; as :meth:`features`, then :meth:`heads`."""
        return self.heads(self.features(x), self.head_names)

    def feature_bytes_per_voxel(self, element_size: int) -> float:
        """Estimate the peak memory of :meth:`features` per input voxel of a tile (batch 1).

        Parameters
        ----------
        element_size
            Bytes of one activation: 4 for float32, 2 for half precision.
        """
        return memory.feature_bytes_per_voxel(self.description, element_size)

    def head_bytes_per_voxel(self, element_size: int) -> float:
        """Estimate the peak memory of :meth:`heads` per voxel, outputs included.

        Parameters
        ----------
        element_size
            Bytes of one activation.
        """
        return memory.head_bytes_per_voxel(self.description, element_size)
