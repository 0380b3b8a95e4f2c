"""Models as safetensors: weights and description in one file that can only hold data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from cryosiam_engine.checkpoint.scan import damaged
from cryosiam_engine.checkpoint.values import plain
from cryosiam_engine.errors import CheckpointError

#: How the names of such files end.
SUFFIX = ".safetensors"
#: The entry of the file's metadata that describes the network, as JSON.
DESCRIPTION = "hyper_parameters"

_ZIP_START, _PICKLE_START = b"PK\x03\x04", b"\x80"
#: The format's own limit, in bytes, and one of ours: far above any description of a network.
_LONGEST_HEADER = 100_000_000
_LONGEST_DESCRIPTION = 4 << 20

_REMEDY = (
    "Give the .safetensors file as this engine exported it, with the description of its network, "
    "or the .ckpt file."
)


def is_model_file(path: Path) -> bool:
    """Whether a file is to be read as safetensors rather than as a ``.ckpt`` file.

    Its name says so, or, under any other name, its content.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    CheckpointError
        When it cannot be read, or is a ``.ckpt`` file under the wrong name.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise damaged(path, error) from error
    if path.suffix.lower() != SUFFIX:
        # The length of the header, and the header, which is JSON.
        length, first = int.from_bytes(start[:8], "little"), start[8:]
        return first == b"{" and length <= _LONGEST_HEADER
    if start.startswith((_ZIP_START, _PICKLE_START)):
        raise CheckpointError(
            f"{path} is not of the kind that its name says: it looks like a .ckpt file.",
            remedy="If it is from where its authors publish it, rename it to end with .ckpt.",
        )
    return True


def read_model_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the weights and the description of a network from safetensors.

    Parameters
    ----------
    path
        The ``.safetensors`` file. Entries of its metadata besides `DESCRIPTION` are left alone.

    Returns
    -------
    tuple
        State dict, on the CPU, in memory of its own, and hyper-parameters, of plain JSON types.

    Raises
    ------
    CheckpointError
        When it is damaged, or lacks weights or description.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            # Copied: a file that is replaced during a run must not change, or end, that run.
            weights: dict[str, torch.Tensor] = {
                name: file.get_tensor(name).clone()
                for name in file.keys()  # noqa: SIM118 - no mapping
            }
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise damaged(path, error) from error
    if not weights:
        raise CheckpointError(f"Model {path} holds no weights.", remedy=_REMEDY)
    return weights, _description(metadata.get(DESCRIPTION, ""), path)


def _description(text: str, path: Path) -> dict[str, Any]:
    """The settings that the file's author wrote, which may be anything."""
    try:
        if len(text) > _LONGEST_DESCRIPTION:
            raise ValueError("the settings hold too much")
        described = plain(json.loads(text)) if text else None
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(described, dict) or not described:
        raise CheckpointError(
            f"Model {path} does not describe its network ({DESCRIPTION} in its metadata).",
            remedy=_REMEDY,
        )
    return described
