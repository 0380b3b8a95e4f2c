"""Trained models written as safetensors, to be passed on or packaged."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from cryosiam_engine import __version__
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.checkpoint.model_file import DESCRIPTION
from cryosiam_engine.files import atomic_path, output_error
from cryosiam_engine.provenance.converted import CONVERTED_FROM, Converted


def export_model(checkpoint: Path, path: Path, *, names_source: bool = False) -> str:
    """Write the weights and the description of a checkpoint as safetensors.

    Parameters
    ----------
    checkpoint
        A ``.ckpt`` file, published or trained by this engine.
    path
        The ``.safetensors`` file; its metadata holds the hyper-parameters as JSON.
    names_source
        Whether the metadata names the checkpoint and its SHA-256 too.

    Returns
    -------
    str
        The checkpoint's SHA-256.

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
    metadata = {DESCRIPTION: json.dumps(loaded.hyper_parameters, sort_keys=True)}
    if names_source:
        converted = Converted(checkpoint.name, loaded.sha256, __version__)
        metadata[CONVERTED_FROM] = converted.as_json()
    with atomic_path(path) as partial:
        try:
            save_file(weights, partial, metadata=metadata)
        except SafetensorError as error:
            raise output_error(OSError(str(error)), path) from error
        _sort_metadata(partial)
        # safetensors makes files for their owner only.
        partial.chmod(path.parent.stat().st_mode & 0o666)
    return loaded.sha256


def _sort_metadata(path: Path) -> None:
    """Write the metadata in one order: safetensors has another each time, and so a new checksum."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        # The format pads with spaces; a longer text, of other escapes, would not fit.
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))
