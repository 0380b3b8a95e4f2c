"""From a checkpoint to a network with its weights, and back to the published names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cryosiam_engine.errors import CheckpointError
from cryosiam_engine.networks.dense_simsiam import DenseSimSiam
from cryosiam_engine.networks.describe import describe
from cryosiam_engine.networks.description import (
    BACKBONE_PREFIX,
    MODEL_PREFIX,
    BackboneDescription,
    ModelDescription,
    Task,
)
from cryosiam_engine.networks.heads import DenseModel
from cryosiam_engine.networks.simsiam import SimSiam

if TYPE_CHECKING:
    from cryosiam_engine.checkpoint import Checkpoint

_TASK_NAMES: dict[str, str] = {
    "denoising": "a denoising model",
    "semantic": "a semantic segmentation model",
    "instance": "an instance segmentation model",
    "dense_simsiam": "a pretrained backbone without heads",
    "embedding": "an embedding model",
}
_TASK_COMMANDS: dict[str, str] = {
    "denoising": "denoise_predict",
    "semantic": "semantic_predict",
    "instance": "instance_predict",
    "dense_simsiam": "semantic_train",
    "embedding": "simsiam_embeddings_predict",
}
#: The one layer that has two names.
_SHARED_LAYER = ("encoder.fc", "global_projector.6")
_NAMED_IN_ERRORS = 5


def build_network(description: ModelDescription) -> nn.Module:
    """Build the whole network, with every parameter a published file of its kind holds.

    Parameters
    ----------
    description
        What to build.

    Returns
    -------
    nn.Module
        A :class:`DenseModel`, :class:`DenseSimSiam` or :class:`SimSiam` with random weights.
    """
    if description.head is not None:
        return DenseModel(description)
    if isinstance(description.backbone, BackboneDescription):
        return DenseSimSiam(description.backbone)
    return SimSiam(description.backbone)


def load_network(checkpoint: Checkpoint, task: str | None = None) -> nn.Module:
    """Build the network of a checkpoint with its weights, in evaluation mode, on the CPU.

    Parameters
    ----------
    checkpoint
        The loaded file. Its weights are copied.
    task
        Refuse checkpoints of any other task.

    Raises
    ------
    CheckpointError
        When the file is of another task, or when its weights are not exactly those of the
        network that it describes.
    """
    description = describe(checkpoint)
    if task is not None and description.task != task:
        raise _wrong_task(checkpoint.path, description.task, task)
    # Built without memory or random numbers: the strict loading fills every tensor.
    with torch.device("meta"):
        network = build_network(description)
    weights = _weights_of(network, checkpoint.state_dict)
    _check_weights(checkpoint.path, network.state_dict(), weights)
    network.to_empty(device="cpu")
    network.load_state_dict(weights)
    return network.eval()


def published_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """State dict of a network under the names of the published files.

    Parameters
    ----------
    network
        As :func:`build_network` makes it.
    """
    return {
        prefix + name[len(own) :]: tensor
        for own, prefix in _prefixes(network).items()
        for name, tensor in network.state_dict().items()
        if name.startswith(own)
    }


def _prefixes(network: nn.Module) -> dict[str, str]:
    """Our prefixes and the published ones that stand for them."""
    if isinstance(network, DenseModel):
        return {"backbone.": BACKBONE_PREFIX, "head.": MODEL_PREFIX}
    return {"": MODEL_PREFIX}


def _weights_of(network: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names; what has no known prefix (losses, metrics) is left out."""
    weights = {
        own + name[len(prefix) :]: tensor
        for own, prefix in _prefixes(network).items()
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }
    expected = network.state_dict()
    for one, other in (_SHARED_LAYER, _SHARED_LAYER[::-1]):
        for name in [name for name in weights if one in name]:
            twin = name.replace(one, other)
            if twin in expected:
                weights.setdefault(twin, weights[name])
    return weights


def _check_weights(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = expected.keys() - found.keys()
    unexpected = found.keys() - expected.keys()
    foreign = {
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    }
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": foreign}
    told = [f"{word}: {_some(names)}" for word, names in problems.items() if names]
    if told:
        raise CheckpointError(
            f"The weights in {path} are not those of the network it describes ({'; '.join(told)}).",
            remedy="The file is damaged, or it was made by another version of the program: "
            "download it again, or train the model again.",
        )


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _NAMED_IN_ERRORS} more" if len(names) > _NAMED_IN_ERRORS else ""
    return ", ".join(names[:_NAMED_IN_ERRORS]) + more


def _wrong_task(path: Path, found: Task, wanted: str) -> CheckpointError:
    key = "pretrained_model" if wanted == "dense_simsiam" else "trained_model"
    return CheckpointError(
        f"{path} is {_TASK_NAMES[found]}, but {_TASK_COMMANDS[wanted]} needs "
        f"{_TASK_NAMES[wanted]}.",
        remedy=f"Set {key} to {_TASK_NAMES[wanted]}, or use {_TASK_COMMANDS[found]} with this one.",
    )
