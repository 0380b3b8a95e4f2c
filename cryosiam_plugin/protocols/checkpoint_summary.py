"""What a checkpoint says about itself, read without PyTorch and without running anything in it.

A ``.ckpt`` file is a zip archive whose ``data.pkl`` names the weights and describes the network.
Scipion's Python has no PyTorch, so only that description is read: every class that the pickle
asks for is replaced by an inert stand-in, and no weight is touched. A ``.safetensors`` file begins
with its description. The engine itself reads (and judges) the file again, by its own rules, before
it computes anything.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: Name of the task's own head (or decoder, or encoder) among the weights; the first that occurs.
_TASKS: tuple[tuple[str, str], ...] = (
    ("_model.cnn_head", "denoising"),
    ("_model.semantic_head", "semantic"),
    ("_model.foreground_head", "instance"),
    ("_model.decoder.", "backbone"),
    ("_model.encoder.fc.0.", "embedding"),
)
_REMEDY = (
    "Give the .ckpt or .safetensors file as it was published or as CryoSiam's training wrote it."
)
_ZIP_START = b"PK"
#: Bytes; the format's own limit.
_LONGEST_HEADER = 100_000_000

#: How the names of models end.
MODEL_SUFFIXES = (".ckpt", ".safetensors")


class CheckpointSummaryError(ValueError):
    """The file is not a checkpoint of CryoSiam; the message says why and what to do."""


@dataclass(frozen=True)
class CheckpointSummary:
    """The description of a model.

    Attributes
    ----------
    task
        ``denoising``, ``semantic`` (a lamella model is one, of one class), ``instance``,
        ``backbone`` or ``embedding``.
    n_classes
        Classes of a semantic model, without the background; 0 of others.
    head_filters
        Channels of the layers of its heads; empty where the file does not say.
    """

    task: str
    n_classes: int
    head_filters: tuple[int, ...] = ()


def sha256_of(path: str) -> str:
    """Give the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def summarise_checkpoint(path: str) -> CheckpointSummary:
    """Read task and number of classes of a checkpoint.

    Parameters
    ----------
    path
        The ``.ckpt`` or ``.safetensors`` file.

    Raises
    ------
    CheckpointSummaryError
        When it is missing, damaged, or no model of CryoSiam.
    """
    content = _content(path)
    state_dict = content.get("state_dict")
    names = [str(name) for name in state_dict] if isinstance(state_dict, dict) else []
    task = next((t for mark, t in _TASKS if any(n.startswith(mark) for n in names)), None)
    if task is None:
        raise CheckpointSummaryError(f"{path} is no model of CryoSiam. {_REMEDY}")
    network = _section(content, "hyper_parameters", "config", "parameters", "network")
    channels = network.get("out_channels") if task == "semantic" else 0
    # One channel is one class against the background; more channels count the background.
    n_classes = max(channels - 1, 1) if isinstance(channels, int) and channels > 0 else 0
    return CheckpointSummary(task, n_classes, _numbers(network.get("filters")))


def _numbers(value: Any) -> tuple[int, ...]:
    items = value if isinstance(value, (list, tuple)) else ()
    return tuple(item for item in items if isinstance(item, int))


def _section(content: dict[str, Any], *names: str) -> dict[str, Any]:
    """A nested section, empty where it is not there."""
    for name in names:
        inner = content.get(name)
        content = inner if isinstance(inner, dict) else {}
    return content


def _content(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise CheckpointSummaryError(f"There is no model file {path}. Correct its path.")
    try:
        with Path(path).open("rb") as file:
            # Its content says what it is: a zip archive, or a length and then JSON.
            start = file.read(9)
            zipped = start.startswith(_ZIP_START) or not start.endswith(b"{")
            file.seek(0)
            content = _from_zip(file) if zipped else _from_safetensors(file)
    except (zipfile.BadZipFile, pickle.UnpicklingError, LookupError, ValueError) as error:
        raise CheckpointSummaryError(f"{path} is damaged or no checkpoint. {_REMEDY}") from error
    except (OSError, EOFError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointSummaryError(f"{path} cannot be read: {error}. {_REMEDY}") from error
    if not isinstance(content, dict):
        raise CheckpointSummaryError(f"{path} is no checkpoint. {_REMEDY}")
    return content


def _from_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        data = archive.read(names[0])
    return _Reader(io.BytesIO(data)).load()


def _from_safetensors(file: BinaryIO) -> dict[str, Any]:
    """The header in the layout of a checkpoint; the weights behind it are not read."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= _LONGEST_HEADER:
        raise ValueError("the header has no possible length")
    header = json.loads(file.read(length).decode("utf-8"))
    metadata = header.pop("__metadata__")
    return {
        "state_dict": header,
        "hyper_parameters": json.loads(metadata["hyper_parameters"]),
    }


class _Inert:
    """Stands in for every object of a class that a checkpoint names; does and holds nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Ignore an item of a list-like object."""

    def extend(self, values: list[Any]) -> None:
        """Ignore items of a list-like object."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if (module, name) == ("collections", "OrderedDict") else _Inert

    def persistent_load(self, pid: Any) -> Any:
        return _Inert()
