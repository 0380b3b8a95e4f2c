"""What a killed run has half written: noted in its lock file, removed by the next one."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from cryosiam_engine.files import PARTIAL_MARK

logger = logging.getLogger(__name__)

#: Bytes of a lock file that are read at most: a few names for each result.
_MOST = 1 << 20


class Leftovers:
    """The half-written files of whoever holds a lock.

    Each is noted in the lock file before it is begun, so that after a kill nobody has to guess by
    names which files belonged to whom. In an orderly end the notes are cleared.

    Parameters
    ----------
    handle
        The open lock file, locked; None where the file system knows no locks: then files of
        another run, that is at work, could be taken for leftovers.
    folder
        Where it lies.
    """

    def __init__(self, handle: int | None, folder: Path) -> None:
        self._handle = handle
        self._folder = folder

    def remove(self) -> None:
        """Remove what the last holder has left, if it was killed."""
        if self._handle is None:
            return
        for line in os.pread(self._handle, _MOST, 0).decode("utf-8", "replace").splitlines():
            with suppress(ValueError, OSError):
                self._remove(json.loads(line))
        self.clear()

    def note(self, partial: Path) -> None:
        """Note a file that is about to be begun."""
        if self._handle is None:
            return
        # Relative: a project may be moved, or seen under another name in a container.
        line = json.dumps(os.path.relpath(partial, self._folder)) + "\n"
        with suppress(OSError):  # a full disk shows in the result itself
            os.lseek(self._handle, 0, os.SEEK_END)
            os.write(self._handle, line.encode())
            os.fsync(self._handle)

    def clear(self) -> None:
        """Forget all notes."""
        if self._handle is not None:
            with suppress(OSError):
                os.ftruncate(self._handle, 0)

    def close(self) -> None:
        """Note nothing any more."""
        self._handle = None

    def _remove(self, noted: object) -> None:
        if not isinstance(noted, str):
            return
        path = self._folder / noted
        # Whatever stands in the lock file: only what can be half-written is removed.
        if path.name.startswith(".") and PARTIAL_MARK in path.name:
            path.unlink()
            logger.info("Removed %s: the run that was writing it was killed.", path)
