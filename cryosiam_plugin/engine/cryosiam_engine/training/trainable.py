"""Which parameters learn, and which stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cryosiam_engine.config.train import TrainedNetwork
from cryosiam_engine.networks import DenseModel

#: The smallest patch that every network takes.
_PROBE_EDGE = 16


def choose_trainable(network: DenseModel, settings: TrainedNetwork, *, all_of_it: bool) -> None:
    """Mark the parameters that shall learn.

    With ``unfreeze_backbone`` all of them; with ``unfreeze_decoder`` all but the encoder; else
    the heads only.

    Parameters
    ----------
    network
        Changed in place (``requires_grad``).
    settings
        ``parameters.network``.
    all_of_it
        Whatever the settings say: the backbone's weights are random.
    """
    whole = all_of_it or settings.unfreeze_backbone
    network.backbone.requires_grad_(whole)
    if settings.unfreeze_decoder:
        network.backbone.requires_grad_(True)
        network.backbone.encoder.requires_grad_(whole)
    network.head.requires_grad_(True)


def freeze_unused(network: nn.Module, loss_of: Callable[[Tensor], Tensor]) -> None:
    """Freeze the parameters that the loss does not depend on.

    Networks have parts that only their pretraining used; processes that train together wait for
    the gradient of every parameter that learns.

    Parameters
    ----------
    network
        Changed in place (``requires_grad``); its values stay.
    loss_of
        From images `(2, 1, z, y, x)` to a number that depends on all that is used.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()  # so that no statistics change
    edge = _PROBE_EDGE
    generator = torch.Generator().manual_seed(0)
    loss_of(torch.rand(2, 1, edge, edge, edge, generator=generator)).backward()
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
    for module, mode in modes.items():
        module.training = mode


def frozen_norms(parts: Iterable[nn.Module]) -> list[_BatchNorm]:
    """Batch normalisations with parameters or inputs that do not learn.

    A normalisation without scale and shift is frozen with the layer before it.
    """
    frozen: list[_BatchNorm] = []
    for part in parts:
        learning = True
        for module in part.modules():
            own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
            if own:
                learning = any(own)
            if isinstance(module, _BatchNorm) and not learning:
                frozen.append(module)
    return frozen
