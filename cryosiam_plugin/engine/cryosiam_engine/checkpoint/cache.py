"""The converted form of checkpoints, kept under the SHA-256 of the file that they came from."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cryosiam_engine.errors import OutputError
from cryosiam_engine.files import atomic_path, sha256_of, write_text

logger = logging.getLogger(__name__)

#: The two files of an entry.
WEIGHTS_NAME = "weights.safetensors"
HYPER_PARAMETERS_NAME = "hyper_parameters.json"

#: Raised when the meaning of an entry changes; entries of another number are made anew.
_FORMAT = 1

Entry = tuple[dict[str, torch.Tensor], dict[str, Any]]


def cache_folder() -> Path:
    """Where converted checkpoints are kept.

    ``$CRYOSIAM_CACHE``, else ``$XDG_CACHE_HOME/cryosiam``, else ``~/.cache/cryosiam``.

    Raises
    ------
    OutputError
        When none of them is known: in some containers a user has no home.
    """
    try:
        if own := os.environ.get("CRYOSIAM_CACHE"):
            return Path(own).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cryosiam"
    except RuntimeError as error:
        raise OutputError(
            f"There is no folder for converted checkpoints: {error}",
            remedy="Set CRYOSIAM_CACHE to a folder that you may write to.",
        ) from error


def read_entry(sha256: str) -> Entry | None:
    """Read what is kept of the checkpoint with this SHA-256.

    Parameters
    ----------
    sha256
        Of the ``.ckpt`` file, in hexadecimal.

    Returns
    -------
    tuple or None
        State dict (memory-mapped, on the CPU) and hyper-parameters. None when there is no entry,
        or when it is damaged: then a warning says so, and the caller converts again.
    """
    try:
        folder = cache_folder() / sha256
        record = json.loads((folder / HYPER_PARAMETERS_NAME).read_text(encoding="utf-8"))
        if record["format"] != _FORMAT:
            return None
        weights = folder / WEIGHTS_NAME
        # A safetensors header says nothing about the numbers that follow it.
        if record["weights_sha256"] != sha256_of(weights):
            raise ValueError("the weights are not those that were written")
        return load_file(weights, device="cpu"), dict(record["hyper_parameters"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        logger.warning("The converted form of checkpoint %.12s is not usable: %s", sha256, error)
        return None


def write_entry(
    sha256: str, tensors: dict[str, torch.Tensor], hyper_parameters: dict[str, Any]
) -> None:
    """Keep the converted form of the checkpoint with this SHA-256.

    Several processes may do so at once: each file appears whole, and their contents are the same.

    Parameters
    ----------
    sha256
        Of the ``.ckpt`` file, in hexadecimal.
    tensors
        The state dict; tensors that share memory are written separately.
    hyper_parameters
        Of plain JSON types.

    Raises
    ------
    OutputError
        When the folder cannot be written, or the format cannot hold these tensors.
    """
    folder = cache_folder() / sha256
    try:
        weights_sha256 = _write_weights(folder / WEIGHTS_NAME, _separate(tensors))
        record = {
            "format": _FORMAT,
            "weights_sha256": weights_sha256,
            "hyper_parameters": hyper_parameters,
        }
        # Last, because an entry counts from the moment that this file is there.
        write_text(folder / HYPER_PARAMETERS_NAME, json.dumps(record, indent=1))
    except OutputError:
        raise
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise OutputError(f"Could not write {folder}: {error}.") from error


def _write_weights(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    with atomic_path(path) as partial:
        save_file(tensors, partial)
        # safetensors makes files for their owner only; a cache shared by a group needs more.
        partial.chmod(path.parent.stat().st_mode & 0o666)
        return sha256_of(partial)


def _separate(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give every tensor memory of its own, which the format asks for; copy only where needed."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        own = tensor.clone() if address in seen else tensor
        seen.add(address)
        separate[name] = own.contiguous()
    return separate
