"""Loading a checkpoint's pickle without running what it asks for.

Two lines of defence: the file is looked through first, and then loaded by PyTorch's restricted
reader, which answers a fixed list of names and nothing else.
"""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cryosiam_engine.checkpoint.scan import damaged, scan
from cryosiam_engine.checkpoint.values import STAND_INS
from cryosiam_engine.errors import CheckpointError, UnsafeCheckpointError

# The restricted reader of PyTorch below 2.6 runs code (CVE-2025-32434); below 2.10 a file made for
# it can corrupt memory (CVE-2026-24747).
_OLDEST_TORCH = (2, 10)

#: PyTorch's list of names belongs to the process.
_ONE_AT_A_TIME = threading.Lock()


def unpickle(path: Path) -> dict[Any, Any]:
    """Load a checkpoint's top level, with tensors on the CPU.

    Parameters
    ----------
    path
        A ``.ckpt`` file, of PyTorch's zip format or the older one.

    Returns
    -------
    dict
        Everything in the file: plain values, tensors, and inert values for the known names.

    Raises
    ------
    UnsafeCheckpointError
        When the file names anything that is not on the list. Nothing was loaded then.
    CheckpointError
        When it is damaged, of another kind, or PyTorch is too old to read it safely.
    """
    _check_torch()
    is_zip = scan(path)
    # Mapped, so that the optimiser state, most of the file, is not read into memory.
    content = _load(path, mapped=is_zip)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} is not a checkpoint: all it holds is a {type(content).__name__}.",
            remedy="Give the .ckpt file as it was published, with weights and settings.",
        )
    return dict(dict.items(content))


def _check_torch() -> None:
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _OLDEST_TORCH:
        raise CheckpointError(
            f"PyTorch {torch.__version__} cannot load checkpoints safely: a file made for it can "
            "run code.",
            remedy="Install PyTorch 2.10 or newer in the engine's environment.",
        )


def _load(path: Path, *, mapped: bool) -> Any:
    try:
        with _our_names_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "Unsupported operand" in text:
            raise CheckpointError(
                f"Checkpoint {path} was written with a newer pickle protocol than PyTorch's own.",
                remedy="Load it where it was made and write it again with torch.save alone.",
            ) from None
        if "GLOBAL" in text:
            raise UnsafeCheckpointError(
                f"Checkpoint {path} asks for something that no checkpoint of this kind needs.",
                remedy="Do not use this file. Get the model from where its authors publish it.",
            ) from None
        raise damaged(path, ValueError("it builds what weights are not made of")) from error
    except Exception as error:  # whatever a damaged file leads PyTorch into
        raise damaged(path, error) from error


@contextmanager
def _our_names_only() -> Iterator[None]:
    """Let PyTorch answer the names of our list; put back what other packages had added."""
    serialization = torch.serialization
    with _ONE_AT_A_TIME:
        others = serialization.get_safe_globals()
        serialization.clear_safe_globals()
        serialization.add_safe_globals([(answer, name) for name, answer in STAND_INS.items()])
        try:
            yield
        finally:
            serialization.clear_safe_globals()
            serialization.add_safe_globals(others)
