"""Trained models as safetensors: weights and description in one file that can only hold data."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cryosiam_engine.checkpoint import Checkpoint, file_sha256, load_checkpoint
from cryosiam_engine.errors import CheckpointError
from cryosiam_engine.files import atomic_path

_DESCRIPTION = "hyper_parameters"


def export_model(checkpoint: Path, path: Path) -> None:
    """Write the weights and the description of a checkpoint as safetensors.

    Parameters
    ----------
    checkpoint
        A ``.ckpt`` file.
    path
        The ``.safetensors`` file; its metadata holds the hyper-parameters as JSON.

    Raises
    ------
    CheckpointError
        When the checkpoint cannot be loaded.
    OutputError
        When the system refuses to write.
    """
    loaded = load_checkpoint(checkpoint, cache=False)
    # A layer that has two names would otherwise be one piece of memory, which the format refuses.
    weights = {name: tensor.clone().contiguous() for name, tensor in loaded.state_dict.items()}
    described = json.dumps(loaded.hyper_parameters, sort_keys=True)
    with atomic_path(path) as partial:
        save_file(weights, partial, metadata={_DESCRIPTION: described})
        # safetensors makes files for their owner only.
        partial.chmod(path.parent.stat().st_mode & 0o666)


def load_model_file(path: Path) -> Checkpoint:
    """Read what :func:`export_model` wrote.

    Parameters
    ----------
    path
        The ``.safetensors`` file.

    Raises
    ------
    CheckpointError
        When it is missing, damaged or has no description of its network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})[_DESCRIPTION])
            weights: dict[str, torch.Tensor] = {
                name: file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 - no mapping
            }
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is no model of this engine: {error}.",
            remedy="Give the .safetensors file as it was written, or the .ckpt file.",
        ) from error
    return Checkpoint(Path(path), file_sha256(path), weights, described)
