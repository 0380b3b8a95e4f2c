"""A folder for what libraries compile and want to keep, where the usual ones cannot be written."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

_NUMBA = "NUMBA_CACHE_DIR"


def ensure_numba_cache() -> None:
    """Name a folder for numba if it has none: without one it refuses to work at all.

    So it is for a user without a home that can be written, in an installation of somebody else's,
    as in a container. To be called before numba is imported.
    """
    places = [os.environ.get(_NUMBA), os.environ.get("XDG_CACHE_HOME")]
    with suppress(RuntimeError):  # a number without a name has no home
        places.append(str(Path.home() / ".cache"))
    if not any(_may_write(Path(place)) for place in places if place):
        os.environ[_NUMBA] = str(_own_folder())


def _may_write(folder: Path) -> bool:
    """Whether a folder is there and can be written, or can be made."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _own_folder() -> Path:
    """The same one in every run, unless another user was there before."""
    folder = Path(tempfile.gettempdir()) / f"cryosiam-{os.getuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        ours = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
        if ours and _may_write(folder):
            return folder
    # What is compiled is run again later: it may come from nobody else.
    return Path(tempfile.mkdtemp(prefix="cryosiam-"))
