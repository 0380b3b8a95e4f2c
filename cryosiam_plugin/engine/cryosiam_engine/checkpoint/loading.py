"""Published checkpoints, read without running anything that they carry.

A ``.ckpt`` file is a pickle, and a pickle is a program. The weights and settings are taken out once
by a reader that knows a fixed list of harmless names, and kept as safetensors and JSON, which hold
nothing but data. Later runs read those. A model that is safetensors already is read as it is.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cryosiam_engine.checkpoint.cache import Entry, read_entry, sha256_of, write_entry
from cryosiam_engine.checkpoint.model_file import is_model_file, read_model_file
from cryosiam_engine.checkpoint.scan import damaged
from cryosiam_engine.checkpoint.unpickle import unpickle
from cryosiam_engine.checkpoint.values import plain
from cryosiam_engine.errors import CheckpointError, OutputError
from cryosiam_engine.models.advice import for_missing
from cryosiam_engine.models.record import check_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What the engine uses of a checkpoint.

    Attributes
    ----------
    path
        The ``.ckpt`` or ``.safetensors`` file.
    sha256
        Its SHA-256, in hexadecimal: the model's identity in the status file.
    state_dict
        The tensors, on the CPU, with the names and number types of the file.
    hyper_parameters
        The description of network and task, of plain JSON types only.
    """

    path: Path
    sha256: str
    state_dict: dict[str, torch.Tensor]
    hyper_parameters: dict[str, Any]


def load_checkpoint(path: str | Path, *, cache: bool = True) -> Checkpoint:
    """Load a model; a ``.ckpt`` file is converted to safetensors and JSON the first time.

    Optimiser state, callbacks and everything else that inference does not need are dropped.

    Parameters
    ----------
    path
        The ``.ckpt`` or ``.safetensors`` file.
    cache
        Whether to read and keep the converted form in :func:`cache_folder`. A folder that cannot
        be written costs a warning and nothing else. Safetensors are not converted.

    Raises
    ------
    UnsafeCheckpointError
        When the file asks for something to be run. Nothing of it was.
    CheckpointError
        When the file is missing, unreadable, damaged, not a checkpoint of this family, or no
        longer the published model that was downloaded.
    """
    path = Path(path)
    _check_file(path)
    before = _fingerprint(path)
    sha256 = file_sha256(path)
    check_record(path, sha256)
    convert = not is_model_file(path)
    kept = read_entry(sha256) if cache and convert else None
    if kept is None:
        kept = _unpickled(path) if convert else read_model_file(path)
        if _fingerprint(path) != before:
            raise CheckpointError(
                f"Checkpoint {path} changed while it was being read.",
                remedy="Wait until its download or copy has ended, then run again.",
            )
        if cache and convert:
            kept = _keep(sha256, *kept)
    return Checkpoint(path, sha256, *kept)


def file_sha256(path: str | Path) -> str:
    """Give the SHA-256 of a file in hexadecimal, without holding the file in memory.

    Raises
    ------
    CheckpointError
        When the file cannot be read.
    """
    try:
        return sha256_of(Path(path))
    except OSError as error:
        raise _unreadable(Path(path), error) from error


def _unpickled(path: Path) -> Entry:
    content = unpickle(path)
    return _weights(content, path), _hyper_parameters(content, path)


def _keep(sha256: str, tensors: dict[str, torch.Tensor], hyper_parameters: dict[str, Any]) -> Entry:
    """Convert, and go on with what the next run will read too."""
    try:
        write_entry(sha256, tensors, hyper_parameters)
    except OutputError as error:
        logger.warning(
            "The converted checkpoint was not kept, so that the next run converts it again: %s "
            "Set CRYOSIAM_CACHE to a folder that you may write to.",
            error.message,
        )
        return tensors, hyper_parameters
    return read_entry(sha256) or (tensors, hyper_parameters)


def _check_file(path: Path) -> None:
    """Refuse what is not a file with something in it."""
    try:
        if path.is_dir():
            raise CheckpointError(
                f"{path} is a folder, not a checkpoint.",
                remedy="Give the model file inside it, .ckpt or .safetensors, as trained_model.",
            )
        if not path.exists():
            raise CheckpointError(
                f"There is no checkpoint {path}.",
                remedy=for_missing(path) or "Correct its path in the configuration.",
            )
        if not path.is_file() or path.stat().st_size == 0:
            raise CheckpointError(
                f"Checkpoint {path} is empty.", remedy="Download or copy the model again."
            )
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"Checkpoint {path} cannot be read: {error.strerror or error}.",
        remedy="Check its permissions and the disk, or copy it to where you may read it.",
    )


def _fingerprint(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written to or replaced."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _weights(content: dict[Any, Any], path: Path) -> dict[str, torch.Tensor]:
    """Take the tensors of the state dict, as tensors and nothing more."""
    state_dict = content.get("state_dict")
    # The methods of the classes, not of the objects, on which a file may put attributes; and the
    # bare tensor, without the gradients and hooks that it may ask for.
    named = dict.items(state_dict) if isinstance(state_dict, dict) else ()
    tensors = {
        name: torch.Tensor.detach(tensor).as_subclass(torch.Tensor)
        for name, tensor in named
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }
    if not tensors:
        raise CheckpointError(
            f"Checkpoint {path} holds no weights (state_dict).",
            remedy="Give a model that CryoSiam or this engine has written in training.",
        )
    return tensors


def _hyper_parameters(content: dict[Any, Any], path: Path) -> dict[str, Any]:
    """Take the network's description, as plain JSON types."""
    try:
        hyper_parameters = plain(content.get("hyper_parameters"))
    except ValueError as error:
        raise damaged(path, error) from error
    if not isinstance(hyper_parameters, dict) or not hyper_parameters:
        raise CheckpointError(
            f"Checkpoint {path} does not describe its network (hyper_parameters).",
            remedy="Give the .ckpt file as it was published, not an export of its weights alone.",
        )
    return hyper_parameters
