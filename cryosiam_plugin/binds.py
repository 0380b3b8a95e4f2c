"""Which folders the container must see, and how apptainer is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable

# As many links in a row as Linux follows.
LONGEST_CHAIN = 40


def bind_paths(paths: Iterable[Path]) -> list[Path]:
    """List the folders that must be bound so that `paths` can be read.

    Of a file that is its folder; of a symbolic link also the folder of every file that the link
    leads over, down to the real one, because links are followed inside the container too.

    Parameters
    ----------
    paths
        Files and folders, with or without links. What does not exist is left out: apptainer
        refuses to start for it, and the engine has the better message.

    Returns
    -------
    list of Path
        Absolute, sorted; none lies below another.
    """
    folders = {folder for path in paths for folder in _folders_of(Path(path))}
    folders.discard(Path("/"))  # the container has its own
    return [
        folder
        for folder in sorted(folders)
        if not any(parent in folders for parent in folder.parents)
    ]


def bind_options(paths: Iterable[Path]) -> list[str]:
    """Give the options of ``apptainer exec`` that make `paths` visible under their own names."""
    return [word for folder in bind_paths(paths) for word in _bind_option(str(folder))]


def _folders_of(path: Path) -> list[Path]:
    """The folders on the way from a path to the real file."""
    if not path.exists():
        return []
    found = []
    hop = _absolute(path)
    for _ in range(LONGEST_CHAIN):
        # A folder on the way may be a link itself: then its own place is needed as well.
        real_parent = hop.parent.resolve()
        found += [_container_of(hop), _container_of(real_parent / hop.name)]
        if not hop.is_symlink():
            break
        hop = _absolute(real_parent / os.readlink(hop))
    return [*found, _container_of(path.resolve())]


def _absolute(path: Path) -> Path:
    """`path` from the root, without ``..``, its links not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow them


def _container_of(path: Path) -> Path:
    """The folder itself, or the one of a file; of a file in the root the file itself."""
    if path.is_dir():
        return path
    return path if path.parent == Path(path.anchor) else path.parent


def _bind_option(folder: str) -> list[str]:
    # --bind takes no name with its separators in it; --mount does, in quotes.
    if not any(character in folder for character in ':,"\n'):
        return ["--bind", folder]
    quoted = folder.replace('"', '""')
    return ["--mount", f'type=bind,"source={quoted}","destination={quoted}"']
