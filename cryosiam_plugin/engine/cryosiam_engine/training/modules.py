"""The networks as Lightning trains them; their checkpoints have CryoSiam's layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.networks import DenseModel, DenseSimSiam, SimSiam
from cryosiam_engine.networks.description import HEADS
from cryosiam_engine.training.dense_similarity import embed_views, sum_of_squares, view_losses
from cryosiam_engine.training.dense_views import VIEWS
from cryosiam_engine.training.losses import Loss, dice_counts, loss_for, similarity_loss
from cryosiam_engine.training.optimisers import optimiser_and_schedule, schedule_steps
from cryosiam_engine.training.starting_network import StartingNetwork
from cryosiam_engine.training.trainable import choose_trainable, freeze_unused, frozen_norms
from cryosiam_engine.training.volumes import IMAGE

Batch = Mapping[str, Tensor]


class Training(LightningModule):
    """What the training of every task has in common.

    Parameters
    ----------
    config
        Of the training.
    hyper_parameters
        What checkpoints say about the network.

    Attributes
    ----------
    step_losses
        Parts of the last training step's loss, and ``loss``, their sum.
    validation
        Results of the last whole validation: ``val_loss``, its parts and Dice coefficients.
    """

    def __init__(self, config: TrainConfig, hyper_parameters: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.step_losses: dict[str, Tensor] = {}
        self.validation: dict[str, float] = {}
        self._description = hyper_parameters
        self._sums: dict[str, Tensor] = {}
        self._kept_still: list[nn.Module] = []

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Parts of the loss of a batch, and counts for the Dice coefficients."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of one batch."""
        parts, _ = self.losses(batch)
        loss = torch.stack([*parts.values()]).sum()
        self.step_losses = {name: part.detach() for name, part in parts.items()}
        self.step_losses["loss"] = loss.detach()
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin the sums anew."""
        self._sums = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add one batch to the sums."""
        parts, counts = self.losses(batch)
        n = next(iter(batch.values())).shape[0]
        added = {f"val_{name}": part.double() * n for name, part in parts.items()}
        added["samples"] = torch.tensor(float(n), dtype=torch.float64, device=self.device)
        if counts is not None:
            added["dice"] = counts
        for name, value in added.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def on_validation_epoch_end(self) -> None:
        """Add up the sums of all processes."""
        sums = {
            name: self.trainer.strategy.reduce(value, reduce_op="sum")
            for name, value in sorted(self._sums.items())
        }
        n, counts = sums.pop("samples"), sums.pop("dice", None)
        means = {name: float(value / n) for name, value in sums.items()}
        result = {"val_loss": sum(means.values()), **means}
        if counts is not None:
            first = 1 if counts.shape[1] == 1 else 0
            for index, (both, sizes) in enumerate(counts.T.tolist(), start=first):
                # A class that is neither there nor found says nothing about the network.
                result[f"val_dice_{index}"] = 2 * both / sizes if sizes else float("nan")
        self.validation = result

    def configure_optimizers(self) -> Any:
        """Optimiser of what learns, and a schedule over the whole training."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        steps = int(self.trainer.estimated_stepping_batches)
        return optimiser_and_schedule(parameters, self.config.schedule, steps)

    def train(self, mode: bool = True) -> Training:
        """Enter training mode, without the parts that keep still."""
        super().train(mode)
        for module in self._kept_still if mode else []:
            module.eval()
        return self

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with a schedule that was made for another number of steps.

        Raises
        ------
        ConfigurationError
            When epochs have become longer or shorter.
        """
        before = checkpoint["lr_schedulers"][0]["total_steps"]
        now = schedule_steps(int(self.trainer.estimated_stepping_batches))
        if before != now:
            raise ConfigurationError(
                f"The training was begun with {before} steps in all; with the samples, batch "
                f"size and processes of now it would have {now}.",
                remedy="Go on with the same tomograms or patches, and with the same number of "
                "samples in the batches of all processes together.",
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the network as CryoSiam's loaders expect it."""
        checkpoint["hparams_name"] = "kwargs"
        checkpoint["hyper_parameters"] = self._description


class DenseTraining(Training):
    """Training of a network with heads."""

    def __init__(self, config: TrainConfig, start: StartingNetwork) -> None:
        super().__init__(config, start.hyper_parameters)
        network = start.network
        if not isinstance(network, DenseModel):
            raise TypeError("a dense task has a dense network")
        choose_trainable(network, config.network, all_of_it=not start.is_pretrained)
        self._heads = {
            output: name
            for output, name in HEADS[network.description.task].items()
            if config.task != "semantic"
            or output != "distances"
            or config.network.distance_prediction
        }
        # These two names are the prefixes of the published state dicts.
        self._model_backbone = network.backbone
        self._model = network.head
        self._loss: Loss = loss_for(config)
        freeze_unused(network, self._any_loss)
        if config.network.freeze_normalisation:
            self._kept_still = [*frozen_norms([self._model_backbone, self._model])]
        self._backbone_learns = any(p.requires_grad for p in network.backbone.parameters())
        self.train()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs ``(b, channels, z, y, x)`` of the heads that learn."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._backbone_learns):
            embedded = self._model_backbone(images)
        return {output: self._model[name](embedded) for output, name in self._heads.items()}

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """As the base class says."""
        outputs = self(batch[IMAGE])
        counts = None if self.training else dice_counts(outputs, batch)
        return self._loss(outputs, batch), counts

    def _any_loss(self, images: Tensor) -> Tensor:
        self._backbone_learns = True
        return torch.stack([output.square().sum() for output in self(images).values()]).sum()


class EmbeddingTraining(Training):
    """Training of an embedding network on pairs of views (SimSiam; Chen & He, 2021)."""

    def __init__(self, config: TrainConfig, start: StartingNetwork) -> None:
        super().__init__(config, start.hyper_parameters)
        if not isinstance(start.network, SimSiam):
            raise TypeError("an embedding model is a SimSiam network")
        self._model = start.network
        freeze_unused(self._model, lambda x: self._model.predictor(self._model(x)).square().sum())
        self.train()

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """As the base class says; the two views predict each other."""
        one, other = (self._model(batch[view]) for view in ("view_1", "view_2"))
        predicted, back = self._model.predictor(one), self._model.predictor(other)
        loss = (similarity_loss(predicted, other) + similarity_loss(back, one)) / 2
        return {"similarity": loss}, None


class BackboneTraining(Training):
    """Training of a dense backbone on pairs of views with voxels in common, without labels."""

    def __init__(self, config: TrainConfig, start: StartingNetwork) -> None:
        super().__init__(config, start.hyper_parameters)
        if not isinstance(start.network, DenseSimSiam):
            raise TypeError("a backbone is a dense SimSiam network")
        self._model = start.network
        freeze_unused(self._model, lambda views: sum_of_squares(self._model, views))
        self.train()

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """As the base class says; the two views predict each other."""
        one, other = (embed_views(self._model, batch[view]) for view, _ in VIEWS)
        return view_losses(one, other, *(batch[shared] for _, shared in VIEWS)), None


def training_module(config: TrainConfig, start: StartingNetwork) -> Training:
    """The module for the task of a configuration."""
    if config.task == "embedding":
        return EmbeddingTraining(config, start)
    if config.task == "backbone":
        return BackboneTraining(config, start)
    return DenseTraining(config, start)
