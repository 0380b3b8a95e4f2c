"""The dense backbone: an embedding of every voxel, learned by self-supervision."""

from __future__ import annotations

from torch import Tensor, nn

from cryosiam_engine.networks.decoders import BidirectionalPyramid, FeaturePyramid
from cryosiam_engine.networks.description import BackboneDescription
from cryosiam_engine.networks.encoder import Encoder
from cryosiam_engine.networks.layers import (
    global_predictor,
    global_projector,
    voxel_predictor,
    voxel_projector,
)

#: Coarser maps that pretraining may project too: their reduction of the edge.
_LEVELS = (2, 4, 8)


class DenseSimSiam(nn.Module):
    """Encoder, decoder and voxel projector, with all parts that pretraining needs besides.

    Parameters
    ----------
    description
        Sizes and variants.

    Notes
    -----
    The last layer of the global projector and the encoder's ``fc`` are one layer, and published
    files hold its weights under both names.
    """

    def __init__(self, description: BackboneDescription) -> None:
        super().__init__()
        dims, width = description.spatial_dims, description.fpn_channels
        pooled = description.stage_channels[-1]
        self.description = description
        last_global = nn.Linear(pooled, description.dim)
        self.encoder = Encoder(description, fc=last_global)
        decoder = FeaturePyramid if description.decoder_type == "fpn" else BidirectionalPyramid
        self.decoder = decoder(description)
        self.global_projector = global_projector(pooled, last_global)
        self.global_predictor = global_predictor(description.dim, description.pred_dim)
        self.projector = voxel_projector(dims, width, description.dense_dim)
        self.predictor = voxel_predictor(dims, description.dense_dim, description.dense_pred_dim)
        for level in _LEVELS if description.include_levels_loss else ():
            projector = voxel_projector(dims, width, description.dense_dim)
            predictor = voxel_predictor(dims, description.dense_dim, description.dense_pred_dim)
            self.add_module(f"level_projector_{level}", projector)
            self.add_module(f"level_predictor_{level}", predictor)

    def forward(self, x: Tensor) -> Tensor:
        """Embed every voxel.

        Parameters
        ----------
        x
            Images, ``(b, in_channels, z, y, x)``.

        Returns
        -------
        Tensor
            ``(b, dense_dim, z, y, x)``, of half the size if the encoder has a max pooling.
        """
        z: Tensor = self.projector(self.decoder(self.encoder.pyramid(x)))
        return z
