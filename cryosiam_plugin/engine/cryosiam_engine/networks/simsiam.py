"""The embedding network: one vector for each sub-tomogram."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize

from cryosiam_engine.networks.description import EncoderDescription
from cryosiam_engine.networks.encoder import Encoder
from cryosiam_engine.networks.layers import global_predictor, global_projector


class SimSiam(nn.Module):
    """Encoder with a projector in place of its classifier, and a predictor.

    Parameters
    ----------
    description
        Sizes of the encoder; ``dim`` is the embedding's width.
    """

    def __init__(self, description: EncoderDescription) -> None:
        super().__init__()
        pooled = description.stage_channels[-1]
        self.description = description
        projector = global_projector(pooled, nn.Linear(pooled, description.dim))
        self.encoder = Encoder(description, fc=projector)
        self.predictor = global_predictor(description.dim, description.pred_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Project sub-tomograms ``(n, in_channels, z, y, x)`` to vectors ``(n, dim)``."""
        projected: Tensor = self.encoder(x)
        return projected

    def embed(self, x: Tensor, *, contrastive: bool) -> Tensor:
        """Compute the embeddings that are written and clustered.

        Parameters
        ----------
        x
            Sub-tomograms, ``(n, in_channels, z, y, x)``.
        contrastive
            True for contrastively fine-tuned models: the predictor's output with length 1.
            False: the projector's output as it is.

        Returns
        -------
        Tensor
            ``(n, dim)``.
        """
        projected = self(x)
        return normalize(self.predictor(projected), dim=1) if contrastive else projected
