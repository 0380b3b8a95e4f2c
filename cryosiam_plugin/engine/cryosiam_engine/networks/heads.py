"""The convolutional heads of the dense tasks, and backbone plus heads as one model."""

from __future__ import annotations

from torch import Tensor, nn

from cryosiam_engine.networks.dense_simsiam import DenseSimSiam
from cryosiam_engine.networks.description import (
    HEADS,
    BackboneDescription,
    HeadDescription,
    ModelDescription,
)
from cryosiam_engine.networks.layers import batch_norm, convolution


def convolutional_head(backbone: BackboneDescription, head: HeadDescription) -> nn.Sequential:
    """Three convolutions from voxel embeddings to `head.out_channels` raw outputs per voxel."""
    dims, kernel = backbone.spatial_dims, head.kernel_size
    first, second = head.filters
    return nn.Sequential(
        convolution(dims, backbone.dense_dim, first, kernel),
        batch_norm(dims, first),
        nn.ReLU(inplace=True),
        convolution(dims, first, second, kernel),
        batch_norm(dims, second),
        nn.ReLU(inplace=True),
        convolution(dims, second, head.out_channels, kernel),
    )


class DenseModel(nn.Module):
    """A dense backbone and the heads of one task: the whole of a task checkpoint.

    Parameters
    ----------
    description
        Of a denoising, semantic or instance model.

    Raises
    ------
    ValueError
        When the description is of another task.
    """

    def __init__(self, description: ModelDescription) -> None:
        super().__init__()
        if description.head is None or not isinstance(description.backbone, BackboneDescription):
            raise ValueError(f"a {description.task} model has no dense heads")
        self.description = description
        self.backbone = DenseSimSiam(description.backbone)
        self.head = nn.ModuleDict(
            {
                module: convolutional_head(description.backbone, description.head)
                for module in HEADS[description.task].values()
            }
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute all heads' raw outputs.

        Parameters
        ----------
        x
            Images, ``(b, in_channels, z, y, x)``.

        Returns
        -------
        dict
            Per head (``'denoised'``; ``'logits'``, ``'distances'``; ``'foreground'``,
            ``'distances'``, ``'boundaries'``) a tensor ``(b, out_channels, z, y, x)``.
        """
        z = self.backbone(x)
        return {name: self.head[module](z) for name, module in HEADS[self.description.task].items()}
