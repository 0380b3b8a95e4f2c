"""One writer per result: advisory locks that vanish with the process that holds them."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryosiam_engine.errors import BusyError
from cryosiam_engine.files import output_error
from cryosiam_engine.leftovers import Leftovers

logger = logging.getLogger(__name__)

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(path: Path, *, what: str, wait: bool = False) -> Iterator[Leftovers]:
    """Hold the lock file `path` while the block runs.

    The lock belongs to the open file, so the system frees it however the process ends; the file
    itself stays, empty unless its holder was killed. Several Slurm tasks may share a folder, each
    with its tomograms. What an earlier holder that was killed has half written is removed.

    Parameters
    ----------
    path
        The lock file; made where missing.
    what
        What is locked, for the message.
    wait
        Wait until the other run is finished instead of refusing.

    Yields
    ------
    Leftovers
        Where to note what is half written.

    Raises
    ------
    BusyError
        When another process holds the lock and `wait` is false.
    OutputError
        When the lock file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise output_error(error, path) from error
    try:
        is_held = _acquire(handle, what, wait)
        leftovers = Leftovers(handle if is_held else None, path.parent)
        leftovers.remove()
        try:
            yield leftovers
        finally:
            leftovers.clear()
            leftovers.close()
    finally:
        os.close(handle)


def _acquire(handle: int, what: str, wait: bool) -> bool:
    """Lock; False where the file system knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise BusyError(
            f"{what} is being written by another run.",
            remedy="Wait until it is finished, or give this run another prediction_folder.",
        ) from error
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        logger.warning(
            "This file system knows no locks: make sure that no second run writes %s.", what
        )
        return False
    return True
