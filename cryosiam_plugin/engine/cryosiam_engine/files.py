"""Files that are either whole or absent: a temporary name in the same folder, then a rename."""

from __future__ import annotations

import errno
import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from cryosiam_engine.errors import OutputError

#: Every half-written file carries this in its name, so that leftovers of a crash are recognised.
PARTIAL_MARK = ".partial-"
_BLOCK = 1 << 20
_note: ContextVar[Callable[[Path], None] | None] = ContextVar("note", default=None)


@contextmanager
def noting(note: Callable[[Path], None] | None) -> Iterator[None]:
    """Have `note` told of every half-written file of this thread before it is begun.

    Parameters
    ----------
    note
        Gets the temporary path; None for nobody.
    """
    token = _note.set(note)
    try:
        yield
    finally:
        _note.reset(token)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to `path` when the block ends well.

    The temporary name keeps the suffix (libraries look at it) and lies in the same folder (a
    rename across file systems is no rename). If the block raises, the temporary file is removed
    and `path` is as it was before.

    Parameters
    ----------
    path
        Where the finished file shall be. Missing parent folders are made.

    Yields
    ------
    Path
        The temporary path.

    Raises
    ------
    OutputError
        When the system refuses to write: no space, no permission, a read-only file system.
    """
    final = Path(path)
    partial = final.with_name(f".{final.stem}{PARTIAL_MARK}{uuid.uuid4().hex[:8]}{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        note = _note.get()
        if note:
            note(partial)
        yield partial
        partial.replace(final)
    except OSError as error:
        raise output_error(error, final) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, atomically.

    Raises
    ------
    OutputError
        As :func:`atomic_path`.
    """
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def output_error(error: OSError, path: Path) -> OutputError:
    """Turn an operating-system error met while writing `path` into one with a remedy.

    Parameters
    ----------
    error
        What was raised. HDF5 hides the number in the text, so the text is searched too.
    path
        The file that was being written.
    """
    if isinstance(error, OutputError):
        return error
    text = str(error).lower()
    if error.errno == errno.ENOSPC or "no space left" in text or f"errno = {errno.ENOSPC}" in text:
        return OutputError(
            f"No space left on the device while writing {path}.",
            remedy="Free space or choose another prediction_folder, then run again: "
            "finished tomograms are kept and not computed again.",
        )
    if error.errno == errno.EDQUOT or "quota" in text:
        return OutputError(
            f"Your disk quota is used up (writing {path}).",
            remedy="Free space or choose another prediction_folder, then run again.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) or "read-only" in text:
        return OutputError(
            f"No permission to write {path}.",
            remedy="Choose a prediction_folder that you may write to, or change its permissions.",
        )
    return OutputError(
        f"Could not write {path}: {error}.",
        remedy="Check the disk and the folder, then run again.",
    )


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file in hexadecimal, reading it piece by piece.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
