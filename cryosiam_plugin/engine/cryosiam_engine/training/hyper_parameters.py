"""The description of network and training that a checkpoint carries, laid out as CryoSiam's."""

from __future__ import annotations

from typing import Any

from cryosiam_engine.config.train import TrainConfig

_DENSE_KEYS = ("fpn_channels", "dense_dim", "dense_pred_dim")


def task_config(config: TrainConfig, dense_dim: int) -> dict[str, Any]:
    """What CryoSiam calls the ``config`` of a model with heads.

    Parameters
    ----------
    config
        Of the training.
    dense_dim
        Channels that the backbone gives to the heads.

    Returns
    -------
    dict
        Plain values only.
    """
    network = config.network
    described: dict[str, Any] = {
        "in_channels": network.in_channels,
        "spatial_dims": network.spatial_dims,
        "dense_dim": dense_dim,
        "filters": list(network.filters),
        "kernel_size": network.kernel_size,
        "padding": network.kernel_size // 2,
        "unfreeze_decoder": network.unfreeze_decoder,
        "unfreeze_backbone": network.unfreeze_backbone,
    }
    if config.task == "denoising":
        described |= {"n_output_channels": 1, "loss_type": network.loss_type}
    if config.task == "semantic":
        described |= {
            "out_channels": network.out_channels,
            "distance_prediction": network.distance_prediction,
            "use_dice_loss": network.use_dice_loss,
        }
    pretrained = config.pretrained_model
    return {
        "pretrained_model": str(pretrained) if pretrained else None,
        "file_extension": config.file_extension,
        **_training(config, described),
    }


def backbone_config(config: TrainConfig, *, with_decoder: bool) -> dict[str, Any]:
    """Describe a network that begins with random weights.

    Parameters
    ----------
    config
        Of the training.
    with_decoder
        Of a dense network; else of an encoder of sub-tomograms.
    """
    network = config.backbone.model_dump(mode="json")
    if not with_decoder:
        network = {name: value for name, value in network.items() if name not in _DENSE_KEYS}
    network |= {"in_channels": 1, "spatial_dims": 3}
    return _training(config, network)


def _training(config: TrainConfig, network: dict[str, Any]) -> dict[str, Any]:
    # Trainings that were begun before this key was known go on without it.
    unused = set() if config.task == "backbone" else {"min_view_overlap"}
    return {
        "seed": config.seed,
        "parameters": {
            "gpu_devices": config.gpu_devices,
            "nodes": config.nodes,
            "data": config.patches.model_dump(mode="json", exclude=unused),
            "transforms": config.transforms.model_dump(mode="json"),
            "network": network,
        },
        "hyper_parameters": config.schedule.model_dump(mode="json"),
    }
