"""Untrained checkpoints in the published layout: for tests, benchmarks and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from cryosiam_engine.networks.build import build_network, published_state_dict
from cryosiam_engine.networks.describe import read_description
from cryosiam_engine.networks.description import EncoderDescription, Task
from cryosiam_engine.networks.simsiam import SimSiam

_VARIANT = {"in_channels": 1, "block_type": "bottleneck", "num_layers": [1, 1, 1, 1]}
_SMALL = {"num_filters": [8, 16, 32, 64], "no_max_pool": True, "dim": 64, "pred_dim": 16}
_FULL = {"num_filters": [64, 128, 256, 512], "no_max_pool": True, "dim": 2048, "pred_dim": 512}
_SMALL_DENSE = {"fpn_channels": 16, "dense_dim": 8, "dense_pred_dim": 16}
_FULL_DENSE = {"fpn_channels": 128, "dense_dim": 64, "dense_pred_dim": 64}
#: Embeddings have half the width of the documented backbone's global projection.
_FULL_EMBEDDING_DIM = 1024
_SMALL_PATCH, _FULL_PATCH = 32, 128
#: Volumes that the statistics are taken from; vectors are normalised over the batch.
_CALIBRATION_EDGE, _CALIBRATION_BATCH = 32, 2


def random_checkpoint(
    task: Task,
    *,
    out_channels: int = 1,
    seed: int = 0,
    backbone: Mapping[str, Any] | None = None,
    patch_size: int | None = None,
    full_size: bool = False,
) -> dict[str, Any]:
    """Make an untrained checkpoint that ``torch.save`` can write and the engine can load.

    The statistics of its batch normalisations are those of a noisy volume with blobs, so that
    the outputs vary (left out for the full size, where that takes long).

    Parameters
    ----------
    task
        Kind of model.
    out_channels
        Classes of a semantic model, channels of a denoising model.
    seed
        The same seed gives the same weights.
    backbone
        Replaces values of the network's description, such as ``{'block_type': 'basic'}``.
    patch_size
        Edge of the patches in voxels; 32 for a small network and 128 for one of full size if
        not given.
    full_size
        The documented size of the published models instead of a small one.

    Returns
    -------
    dict
        What a Lightning checkpoint file holds.
    """
    edge = patch_size or (_FULL_PATCH if full_size else _SMALL_PATCH)
    network = _network_section(task, full_size) | dict(backbone or {})
    hyper_parameters = _hyper_parameters(task, network, out_channels, edge, full_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state_dict = _random_weights(task, hyper_parameters, calibrate=not full_size)
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": "2.0.0",
        "state_dict": state_dict,
        "loops": {},
        "hparams_name": "kwargs",
        "hyper_parameters": hyper_parameters,
    }


def _network_section(task: Task, full_size: bool) -> dict[str, Any]:
    network = {**_VARIANT, "spatial_dims": 3, **(_FULL if full_size else _SMALL)}
    if task != "embedding":
        return {**network, **(_FULL_DENSE if full_size else _SMALL_DENSE)}
    return {**network, "dim": _FULL_EMBEDDING_DIM} if full_size else network


def _hyper_parameters(
    task: Task, network: dict[str, Any], out_channels: int, edge: int, full_size: bool
) -> dict[str, Any]:
    backbone_config = _config(network, edge)
    if task == "dense_simsiam":
        return {"config": backbone_config}
    if task == "embedding":
        return {"config": _config({}, edge), "backbone_config": backbone_config}
    head = {name: network[name] for name in ("in_channels", "spatial_dims", "dense_dim")}
    head |= {"filters": [32, 64] if full_size else [8, 16], "kernel_size": 3, "padding": 1}
    if task != "instance":
        head["n_output_channels" if task == "denoising" else "out_channels"] = out_channels
    return {"config": _config(head, edge), "backbone_config": backbone_config}


def _config(network: dict[str, Any], edge: int) -> dict[str, Any]:
    data = {"patch_size": [edge] * 3, "min": 0, "max": 1, "mean": 0, "std": 1}
    return {"parameters": {"data": data, "network": network}}


def _random_weights(
    task: Task, hyper_parameters: dict[str, Any], *, calibrate: bool
) -> dict[str, Tensor]:
    description = read_description(task, hyper_parameters, Path("random weights"))
    network = build_network(description)
    if calibrate:
        _calibrate(network, description.backbone)
    return {name: tensor.clone() for name, tensor in published_state_dict(network).items()}


def _calibrate(network: nn.Module, backbone: EncoderDescription) -> None:
    """Set the stored statistics of batch normalisation to those of a few blobs in noise."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # the plain mean of all passes, of which there is one
    size = [_CALIBRATION_EDGE] * backbone.spatial_dims
    coarse = torch.rand(_CALIBRATION_BATCH, backbone.in_channels, *(edge // 8 for edge in size))
    mode = {2: "bilinear", 3: "trilinear"}[backbone.spatial_dims]
    volumes = interpolate(coarse**4, size=size, mode=mode)
    volumes = (volumes + 0.1 * torch.randn_like(volumes)).clamp_(0, 1)
    network.train()
    with torch.no_grad():
        if isinstance(network, SimSiam):
            network.embed(volumes, contrastive=True)
        else:
            network(volumes)
    network.eval()
