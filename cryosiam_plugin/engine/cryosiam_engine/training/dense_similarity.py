"""What dense pretraining minimises: how differently a network sees the same voxels twice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cryosiam_engine.networks import DenseSimSiam
from cryosiam_engine.training.dense_views import take_shared
from cryosiam_engine.training.losses import similarity_loss


@dataclass(frozen=True)
class EmbeddedView:
    """What a network makes of a batch of views.

    Attributes
    ----------
    projected, predicted
        For every voxel, `(b, dense_dim, z, y, x)`.
    projected_whole, predicted_whole
        For every view as a whole, `(b, dim)`.
    """

    projected: Tensor
    predicted: Tensor
    projected_whole: Tensor
    predicted_whole: Tensor


def embed_views(network: DenseSimSiam, views: Tensor) -> EmbeddedView:
    """Compute projections and predictions of a batch of views `(b, 1, z, y, x)`."""
    levels = network.encoder.pyramid(views)
    # First, because the decoder empties the list.
    whole = network.global_projector(network.encoder.pool(levels[-1]))
    voxels = network.projector(network.decoder(levels))
    return EmbeddedView(voxels, network.predictor(voxels), whole, network.global_predictor(whole))


def sum_of_squares(network: DenseSimSiam, views: Tensor) -> Tensor:
    """A number that depends on every parameter that the loss depends on."""
    embedded = embed_views(network, views)
    return embedded.predicted.square().sum() + embedded.predicted_whole.square().sum()


def view_losses(
    one: EmbeddedView, other: EmbeddedView, shared_by_one: Tensor, shared_by_other: Tensor
) -> dict[str, Tensor]:
    """Negative cosine similarities, each view predicting the other (Chen & He, 2021).

    Parameters
    ----------
    one, other
        Both views of the same places.
    shared_by_one, shared_by_other
        `(b, 3, 3)`, the voxels that the views have in common.

    Returns
    -------
    dict
        ``dense``, over the voxels that both views show, every pair of views alike however many
        these are; ``whole``, of the views as they are. -1 is the least each can be.
    """
    dense = _dense_loss(one.predicted, other.projected, shared_by_one, shared_by_other)
    back = _dense_loss(other.predicted, one.projected, shared_by_other, shared_by_one)
    whole = similarity_loss(one.predicted_whole, other.projected_whole)
    whole_back = similarity_loss(other.predicted_whole, one.projected_whole)
    return {"dense": (dense + back) / 2, "whole": (whole + whole_back) / 2}


def _dense_loss(
    predicted: Tensor, projected: Tensor, shared_by_one: Tensor, shared_by_other: Tensor
) -> Tensor:
    return torch.stack(
        [
            similarity_loss(_voxels(own, here), _voxels(given, there))
            for own, given, here, there in zip(
                predicted, projected, shared_by_one, shared_by_other, strict=True
            )
        ]
    ).mean()


def _voxels(maps: Tensor, shared: Tensor) -> Tensor:
    """The shared voxels one below the other: `(n, channels)`."""
    return take_shared(maps, shared).flatten(1).T
