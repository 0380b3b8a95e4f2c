"""Trained models written as safetensors, to be passed on or packaged."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.checkpoint.model_file import DESCRIPTION
from cryosiam_engine.files import atomic_path, output_error


def export_model(checkpoint: Path, path: Path) -> None:
    """Write the weights and the description of a checkpoint as safetensors.

    Parameters
    ----------
    checkpoint
        A ``.ckpt`` file, published or trained by this engine.
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
        try:
            save_file(weights, partial, metadata={DESCRIPTION: described})
        except SafetensorError as error:
            raise output_error(OSError(str(error)), path) from error
        # safetensors makes files for their owner only.
        partial.chmod(path.parent.stat().st_mode & 0o666)
