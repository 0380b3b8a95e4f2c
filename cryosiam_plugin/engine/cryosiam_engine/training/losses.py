"""How far a network's outputs are from what it shall learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from monai.losses import GeneralizedDiceLoss, SSIMLoss
from torch import Tensor
from torch.nn import functional

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.training.volumes import DISTANCES, LABELS, TARGET

#: From the outputs of all heads and a batch to the parts of the loss; their sum is learned.
Loss = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]


def loss_for(config: TrainConfig) -> Loss:
    """The loss of a dense task: semantic, denoising or instance."""
    if config.task == "semantic":
        return SemanticLoss(dice=config.network.use_dice_loss)
    if config.task == "denoising":
        return DenoisingLoss(config.network.loss_type)
    return instance_loss


class SemanticLoss:
    """Cross-entropy of classes, and if asked for, generalised Dice and distances.

    One output channel is binary: any label of 1 or more is 1.
    """

    def __init__(self, *, dice: bool) -> None:
        self._with_dice = dice

    def __call__(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Parts ``classes``, ``dice``, ``distances``."""
        logits, labels = outputs["logits"].float(), batch[LABELS]
        binary = logits.shape[1] == 1
        if binary:
            wanted = (labels > 0).float()[:, None]
            parts = {"classes": functional.binary_cross_entropy_with_logits(logits, wanted)}
        else:
            parts = {"classes": functional.cross_entropy(logits, labels)}
        if self._with_dice:
            dice = GeneralizedDiceLoss(sigmoid=binary, softmax=not binary, to_onehot_y=not binary)
            parts["dice"] = dice(logits, wanted if binary else labels[:, None])
        if DISTANCES in batch:
            predicted = outputs[DISTANCES].float().tanh()
            parts["distances"] = functional.mse_loss(predicted, batch[DISTANCES])
        return parts


class DenoisingLoss:
    """Mean squared (``l2``) or absolute (``l1``) error, or ``l1`` and structural similarity."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __call__(
        self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Parts ``error`` and ``similarity``."""
        denoised, clean = outputs["denoised"].float(), batch[TARGET]
        if self._kind == "l2":
            return {"error": functional.mse_loss(denoised, clean)}
        parts = {"error": functional.l1_loss(denoised, clean)}
        if self._kind == "combined":
            parts["similarity"] = SSIMLoss(spatial_dims=3)(denoised, clean)
        return parts


def instance_loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parts ``foreground``, ``distances`` and ``boundaries`` of an instance segmentation."""
    entropy = functional.binary_cross_entropy_with_logits
    return {
        "foreground": entropy(outputs["foreground"].float(), batch["foreground"]),
        "distances": functional.mse_loss(outputs["distances"].float(), batch["distances"]),
        "boundaries": entropy(outputs["boundaries"].float(), batch["boundaries"]),
    }


def similarity_loss(predicted: Tensor, projected: Tensor) -> Tensor:
    """Negative cosine similarity of one view's prediction to the other view's projection.

    The projection is taken as given: no gradient flows into it (Chen & He, 2021).

    Parameters
    ----------
    predicted, projected
        `(n, dim)`.
    """
    return -functional.cosine_similarity(predicted.float(), projected.detach().float()).mean()


def dice_counts(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor | None:
    """Per class: voxels in both, and voxels in one plus voxels in the other.

    Parameters
    ----------
    outputs
        Of the heads.
    batch
        With ``labels`` or ``foreground``.

    Returns
    -------
    Tensor or None
        float64 `(2, classes)`; one class, the foreground, for binary tasks; None where there is
        nothing to count.
    """
    if "foreground" in batch:
        predicted, wanted = outputs["foreground"] > 0, batch["foreground"] > 0.5
    elif LABELS not in batch:
        return None
    elif outputs["logits"].shape[1] == 1:
        predicted, wanted = outputs["logits"] > 0, batch[LABELS][:, None] > 0
    else:
        n_classes = outputs["logits"].shape[1]
        found, true = outputs["logits"].argmax(1).flatten(), batch[LABELS].flatten()
        sizes = torch.bincount(found, minlength=n_classes) + torch.bincount(
            true, minlength=n_classes
        )
        both = torch.bincount(true[found == true], minlength=n_classes)
        return torch.stack([both, sizes]).double()
    both = (predicted & wanted).sum()
    return torch.stack([both, predicted.sum() + wanted.sum()]).double()[:, None]
