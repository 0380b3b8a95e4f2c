"""The network that a training begins with: pretrained, or new."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cryosiam_engine.checkpoint import Checkpoint, load_checkpoint
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import CheckpointError, ConfigurationError
from cryosiam_engine.networks import (
    BackboneDescription,
    DenseModel,
    DenseSimSiam,
    SimSiam,
    build_network,
    describe,
    load_network,
    read_description,
)
from cryosiam_engine.training.hyper_parameters import backbone_config, task_config

logger = logging.getLogger(__name__)

#: The size that CryoSiam builds the heads of every semantic model with, whatever it is told.
_ONLY_SEMANTIC_HEAD = ((32, 64), 3)
_HERE = Path("configuration")


@dataclass(frozen=True)
class StartingNetwork:
    """A network, and what its checkpoints will say about it.

    Attributes
    ----------
    network
        A :class:`DenseModel`, a :class:`DenseSimSiam` or a :class:`SimSiam`.
    hyper_parameters
        ``config`` and, for networks with heads, ``backbone_config``.
    is_pretrained
        Whether its backbone has learned something before.
    """

    network: DenseModel | DenseSimSiam | SimSiam
    hyper_parameters: dict[str, Any]
    is_pretrained: bool


def starting_network(config: TrainConfig) -> StartingNetwork:
    """Build the network of a training; its random weights depend on the seed alone.

    Parameters
    ----------
    config
        Of the training.

    Raises
    ------
    CheckpointError
        When ``pretrained_model`` cannot be loaded, or is of another kind.
    ConfigurationError
        When it does not fit the configuration.
    """
    checkpoint = load_checkpoint(config.pretrained_model) if config.pretrained_model else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.task == "embedding":
            return _embedding_network(config, checkpoint)
        if config.task == "backbone":
            return _backbone_network(config, checkpoint)
        return _dense_network(config, checkpoint)


def _embedding_network(config: TrainConfig, checkpoint: Checkpoint | None) -> StartingNetwork:
    own = backbone_config(config, with_decoder=False)
    if checkpoint is None:
        network = build_network(read_description("embedding", {"config": own}, _HERE))
    else:
        network = load_network(checkpoint, "embedding")
        before = checkpoint.hyper_parameters
        owner = "backbone_config" if describe(checkpoint).contrastive else "config"
        own["parameters"]["network"] = before[owner]["parameters"]["network"]
    if not isinstance(network, SimSiam):
        raise TypeError("an embedding model is a SimSiam network")
    return StartingNetwork(network, {"config": own}, checkpoint is not None)


def _backbone_network(config: TrainConfig, checkpoint: Checkpoint | None) -> StartingNetwork:
    own = backbone_config(config, with_decoder=True)
    if checkpoint is not None:
        backbone, described = _pretrained_backbone(checkpoint, load_network(checkpoint), config)
        own["parameters"]["network"] = described["parameters"]["network"]
    network = build_network(read_description("dense_simsiam", {"config": own}, _HERE))
    if not isinstance(network, DenseSimSiam):
        raise TypeError("a backbone is a dense SimSiam network")
    if checkpoint is not None:
        if not network.description.no_max_pool:
            raise CheckpointError(
                f"The network in {checkpoint.path} has a max pooling layer: its output has half "
                "the resolution of its input, so that views cannot be compared voxel by voxel.",
                remedy="Start from a backbone with no_max_pool: True, as the published one is.",
            )
        network.load_state_dict(backbone.state_dict())
    return StartingNetwork(network, {"config": own}, checkpoint is not None)


def _pretrained_backbone(
    checkpoint: Checkpoint, network: nn.Module, config: TrainConfig
) -> tuple[DenseSimSiam, dict[str, Any]]:
    """The dense backbone in a loaded network, and what its checkpoint says about it."""
    if isinstance(network, DenseSimSiam):
        return network, checkpoint.hyper_parameters["config"]
    if isinstance(network, DenseModel):
        return network.backbone, checkpoint.hyper_parameters["backbone_config"]
    raise CheckpointError(
        f"{checkpoint.path} embeds whole particles; it cannot become a network for the task "
        f"{config.task}.",
        remedy="Set pretrained_model to a pretrained backbone, to a denoising, semantic or "
        "instance model, or to null.",
    )


def _dense_network(config: TrainConfig, checkpoint: Checkpoint | None) -> StartingNetwork:
    pretrained = None
    if checkpoint is None:
        backbone = backbone_config(config, with_decoder=True)
    else:
        pretrained = load_network(checkpoint)
        _, backbone = _pretrained_backbone(checkpoint, pretrained, config)
    dense_dim = _dense_dim(config, backbone)
    hyper_parameters = {"config": task_config(config, dense_dim), "backbone_config": backbone}
    description = read_description(_task(config), hyper_parameters, checkpoint_path(config))
    network = build_network(description)
    if not isinstance(network, DenseModel):
        raise TypeError("a dense task has a dense network")
    _warn_of_heads(config)
    if pretrained is not None:
        _take_over(network, pretrained)
    return StartingNetwork(network, hyper_parameters, pretrained is not None)


def checkpoint_path(config: TrainConfig) -> Path:
    """The file to name in errors about the network's description."""
    return config.pretrained_model or _HERE


def _task(config: TrainConfig) -> Any:
    return config.task


def _dense_dim(config: TrainConfig, backbone: dict[str, Any]) -> int:
    own, given = backbone["parameters"]["network"]["dense_dim"], config.network.dense_dim
    # A new network is as the backbone section says; for CryoSiam's files both have to agree.
    if given not in (None, own):
        raise ConfigurationError(
            f"parameters.network.dense_dim is {given}, but that of the backbone is {own}.",
            remedy=f"Set parameters.network.dense_dim to {own}, or leave it out.",
        )
    return int(own)


def _warn_of_heads(config: TrainConfig) -> None:
    head = (config.network.filters, config.network.kernel_size)
    if config.task == "semantic" and head != _ONLY_SEMANTIC_HEAD:
        logger.warning(
            "CryoSiam itself loads semantic models with filters [32, 64] and kernel_size 3 only; "
            "this engine loads any."
        )


def _take_over(network: DenseModel, pretrained: nn.Module) -> None:
    """Copy the backbone; and the heads too, where they are of the same task and size."""
    if isinstance(pretrained, DenseSimSiam):
        network.backbone.load_state_dict(pretrained.state_dict())
        return
    if not isinstance(pretrained, DenseModel):
        raise TypeError("only dense networks have a dense backbone")
    network.backbone.load_state_dict(pretrained.backbone.state_dict())
    if pretrained.description.task != network.description.task:
        return
    before, own = pretrained.head.state_dict(), network.head.state_dict()
    fitting = {name: t for name, t in before.items() if own[name].shape == t.shape}
    if len(fitting) < len(own):
        logger.info(
            "The pretrained heads have other classes or sizes: %d of %d of their tensors are new.",
            len(own) - len(fitting),
            len(own),
        )
    network.head.load_state_dict({**own, **fitting})


def dense_backbone(network: DenseModel) -> BackboneDescription:
    """The description of a dense network's backbone."""
    backbone = network.description.backbone
    if not isinstance(backbone, BackboneDescription):
        raise TypeError("a dense network has a dense backbone")
    return backbone
