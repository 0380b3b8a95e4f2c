"""Looking through a checkpoint before it is loaded, for what it names and whether it is whole.

The pickle's instructions are listed, never carried out. Every class or function named there must be
on a fixed list; else the file is refused by that name.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from cryosiam_engine.checkpoint.values import STAND_INS
from cryosiam_engine.errors import CheckpointError, UnsafeCheckpointError

#: What to do about a file that is not what its author wrote.
AGAIN = (
    "Download or copy the model again and compare its size: a cut-off transfer, or a web page saved"
    " in place of the file, looks like this."
)

_NUMBER_KINDS = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long")

#: What PyTorch needs to put tensors together; its own list is longer than a network's needs.
_TORCH_NAMES = frozenset(
    {
        "_codecs.encode",
        "builtins.set",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch._tensor._rebuild_from_type_v2",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch.storage.UntypedStorage",
        *(f"torch.{kind}Storage" for kind in (*_NUMBER_KINDS, "Short")),
        *(str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)),
    }
)
_ALLOWED = _TORCH_NAMES | STAND_INS.keys()

_ZIP_START = b"PK\x03\x04"
#: A file of PyTorch's older format: this pickled number, four more pickles, then the values.
_OLD_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OLD_PICKLES = 5
_BLOCK = 1 << 20


def scan(path: Path) -> bool:
    """Look through a checkpoint; return only when it may be given to the restricted reader.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bool
        Whether it is of the zip format (else of the older one).

    Raises
    ------
    UnsafeCheckpointError
        When it names anything that is not on the list.
    CheckpointError
        When it is damaged or of another kind.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_OLD_START))
            file.seek(0)
            if start.startswith(_ZIP_START):
                _scan_archive(file, path)
                return True
            _scan_pickles(file, path, old_format=start == _OLD_START)
            return False
    except OSError as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> CheckpointError:
    """Say that a checkpoint is damaged.

    Parameters
    ----------
    path
        The file.
    error
        What its reader met.
    """
    reason = str(error).partition("\n")[0].strip()[:200] or type(error).__name__
    return CheckpointError(f"Checkpoint {path} is damaged or cut off ({reason}).", remedy=AGAIN)


def _scan_archive(file: IO[bytes], path: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            _check_kind(records, path)
            for record in records:
                if record.filename.lower().endswith(".pkl"):
                    _scan_pickle(io.BytesIO(archive.read(record)), path)
            for record in records:
                # PyTorch does not compare the checksums itself; 0 means that none was written.
                if record.CRC != 0:
                    with archive.open(record) as stream:
                        while stream.read(_BLOCK):
                            pass
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # whatever a damaged archive leads its reader into
        raise damaged(path, error) from error


def _check_kind(records: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse archives that are not a checkpoint, or that PyTorch would read wrongly."""
    names = [record.filename.lower() for record in records]
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise CheckpointError(
            f"{path} is a TorchScript archive, which is a program, not a checkpoint.",
            remedy="Give the .ckpt file that the model was published as.",
        )
    if "data.pkl" not in inner:
        raise CheckpointError(
            f"{path} is a zip archive, but not a checkpoint.",
            remedy="If the .ckpt file is inside it, unpack it first.",
        )
    if len(set(names)) != len(names):
        raise CheckpointError(f"{path} holds the same record twice.", remedy=AGAIN)
    # PyTorch takes the compressed bytes for numbers, without a word.
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise CheckpointError(
            f"{path} was unpacked and packed again, with compression.",
            remedy="Download the .ckpt file again and leave it as it is: it is one file.",
        )


def _scan_pickles(file: IO[bytes], path: Path, *, old_format: bool) -> None:
    """Look through the pickles in a row of the older format, or of some other file."""
    if old_format:
        for _ in range(_OLD_PICKLES):
            _scan_pickle(file, path)
        return
    # Not a checkpoint in any case; say so more sharply when it is a pickle with a purpose.
    names, _ = _names(file)
    _refuse({name for name in names if re.fullmatch(r"[\w.]+", name)}, path)
    raise CheckpointError(f"{path} is not a checkpoint.", remedy=AGAIN)


def _scan_pickle(stream: IO[bytes], path: Path) -> None:
    names, error = _names(stream)
    _refuse(names, path)
    if error is not None:
        raise damaged(path, error)


def _refuse(names: set[str], path: Path) -> None:
    unknown = sorted(names - _ALLOWED)
    if unknown:
        # The names are the file's own text: nothing in them may reach a terminal as it is.
        shown = ", ".join(name.encode("unicode_escape").decode()[:80] for name in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise UnsafeCheckpointError(
            f"Checkpoint {path} asks for {shown}{more} when it is loaded. It was refused unloaded.",
            remedy="Do not use this file. Get the model from where its authors publish it; if it "
            "is theirs, ask them for one with weights and plain settings only.",
        )


def _names(stream: IO[bytes]) -> tuple[set[str], Exception | None]:
    """List what one pickle names, up to its end or to where it stops making sense."""
    names: set[str] = set()
    lookups = _Lookups()
    try:
        for operation, argument, _ in pickletools.genops(stream):
            name = lookups.follow(operation.name, argument)
            if name is not None:
                names.add(name)
    except Exception as error:  # whatever a damaged pickle leads its parser into
        return names, error
    return names, None


class _Lookups:
    """Follows the texts that a pickle puts on its stack, which newer protocols look up by."""

    def __init__(self) -> None:
        self._texts: list[str | None] = []
        self._top: str | None = None
        self._memo: dict[int, str | None] = {}

    def follow(self, operation: str, argument: Any) -> str | None:
        """Take one instruction; give the full name that it looks up, if it does."""
        if operation == "MEMOIZE":
            self._memo[len(self._memo)] = self._top
        elif operation in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[int(argument)] = self._top
        elif operation in ("GET", "BINGET", "LONG_BINGET"):
            self._push(self._memo.get(int(argument)))
        elif operation in ("GLOBAL", "INST"):
            self._push(None)
            module, _, name = argument.partition(" ")
            return f"{'builtins' if module == '__builtin__' else module}.{name}"
        elif operation == "STACK_GLOBAL":
            texts = [text or "?" for text in self._texts[-2:]]
            self._push(None)
            return ".".join(texts)
        elif operation not in ("FRAME", "PROTO"):
            self._push(argument if isinstance(argument, str) else None)
        return None

    def _push(self, text: str | None) -> None:
        self._top = text
        self._texts = [*self._texts[-1:], text]
