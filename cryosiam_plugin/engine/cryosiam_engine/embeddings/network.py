"""The part of an embedding network that inference needs, arranged for speed."""

from __future__ import annotations

import copy
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import normalize

from cryosiam_engine.networks import SimSiam
from cryosiam_engine.networks.folding import fold


class EmbeddingNetwork(nn.Module):
    """Encoder with batch normalisation folded into its convolutions, projector and predictor.

    Equal to :meth:`SimSiam.embed` up to rounding. Projector and predictor stay in float32 whatever
    the encoder is turned into: they cost nothing, and their output is what is compared.

    Parameters
    ----------
    simsiam
        Stays as it is.
    contrastive
        True: the embedding is the predictor's output with length 1; False: the projector's.

    Attributes
    ----------
    dim
        Width of an embedding.
    """

    def __init__(self, simsiam: SimSiam, *, contrastive: bool) -> None:
        super().__init__()
        description = simsiam.description
        encoder = copy.deepcopy(simsiam.encoder).eval()
        self.encoder = nn.Sequential(fold(encoder.stem()), *map(fold, encoder.stages()))
        self.projector = cast(nn.Module, encoder.fc)
        self.predictor: nn.Module | None = copy.deepcopy(simsiam.predictor) if contrastive else None
        self.dim = description.dim
        self._peak_channels = _peak_channels(
            description.num_filters[0],
            description.stage_channels[0],
            1.0 if description.no_max_pool else 0.5**description.spatial_dims,
        )
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Embed sub-tomograms ``(n, 1, z, y, x)``: float32 ``(n, dim)``."""
        pooled = self.encoder(x).float().flatten(2).mean(dim=2)
        projected: Tensor = self.projector(pooled)
        if self.predictor is None:
            return projected
        return normalize(self.predictor(projected), dim=1)

    def bytes_per_voxel(self, element_size: int) -> float:
        """Estimate the peak memory per input voxel.

        Parameters
        ----------
        element_size
            Bytes of one activation.
        """
        return element_size * self._peak_channels


def _peak_channels(planes: int, finest: int, share: float) -> float:
    """Maps that are alive together, in channels of full resolution.

    They are largest at the stem and in the first stage. A convolution's output exists twice
    while it runs: in its kernel's layout and in the tensor's.
    """
    return max(1 + 2 * planes, share * (planes + 3 * finest))
