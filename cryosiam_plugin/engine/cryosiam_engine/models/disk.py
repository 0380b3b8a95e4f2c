"""The disk that models are downloaded to: its errors in a user's words, and its free space."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryosiam_engine.errors import EngineError, OutputError

_AGAIN = "Then run the same command again: it goes on where it stopped."
_REMEDIES = {
    errno.ENOSPC: f"Free space. {_AGAIN}",
    errno.EDQUOT: f"Free space of yours, or ask for a larger quota. {_AGAIN}",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "Choose a folder that you may write to with --folder, or ask its owner.",
    ),
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Tell errors of the disk in the words of somebody who downloads models.

    Parameters
    ----------
    path
        The file that is read or written in the block, for the message.

    Raises
    ------
    OutputError
        For every other ``OSError`` than those that are for the user already.
    """
    try:
        yield
    except EngineError:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"Check the disk. {_AGAIN}")
        reason = error.strerror or str(error)
        raise OutputError(f"{path.name} in {path.parent}: {reason}.", remedy=remedy) from error


class Room:
    """The space in a folder that its downloads will need: those at the same time share it."""

    def __init__(self) -> None:
        self._claiming = threading.Lock()
        self._claims: dict[Path, int] = {}

    @contextmanager
    def claimed(self, partial: Path, size: int | None, path: Path) -> Iterator[None]:
        """Claim what a file still needs, until the block ends.

        Parameters
        ----------
        partial
            What is there of it.
        size
            Bytes of the whole file; None claims nothing.
        path
            What it will be called, for the message.

        Raises
        ------
        OutputError
            When less is free than this download and those that go on beside it need.
        """
        with self._claiming, disk_errors(path):
            claims = {**self._claims, **({} if size is None else {partial: size})}
            needed = sum(max(0, whole - _size(file)) for file, whole in claims.items())
            free = shutil.disk_usage(path.parent).free
            if size is not None and free < needed:
                megabytes = f"{needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free"
                raise OutputError(
                    f"There is no space for {path.name} in {path.parent}: {megabytes}, other "
                    "downloads at the same time counted in.",
                    remedy=_REMEDIES[errno.ENOSPC],
                )
            self._claims = claims
        try:
            yield
        finally:
            with self._claiming:
                self._claims.pop(partial, None)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
