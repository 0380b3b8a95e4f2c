"""Which folders a container must see, and how apptainer is told."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Iterable, Iterator

# As many links in a row as Linux follows.
LONGEST_CHAIN = 40

# What every part of apptainer's --bind leaves as it is. Of other names its parser would split some
# (commas, colons, ^), trim some (blanks) and change some (a backslash at the end).
_PLAIN = re.compile(r"[\w./+@%=~-]+")

#: What the image brings itself: the host's in its place would hide the engine, or its programs.
_IMAGES_OWN = (
    *("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/sys"),
    *("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32"),
    *("/usr/libexec", "/usr/local/bin", "/usr/local/lib", "/.singularity.d"),
    *(f"/opt/cryosiam/{name}" for name in ("bin", "commands", "include", "lib", "lib64", "share")),
)
#: Folders that have such in them, or other things of the system; what else is in there is free.
_ABOVE = (
    *("/", "/boot", "/dev", "/opt", "/opt/cryosiam", "/run", "/usr", "/usr/include", "/usr/local"),
    *("/usr/local/share", "/usr/share", "/var"),
)


class BindError(Exception):
    """Something cannot be made visible to a container.

    Parameters
    ----------
    message
        What, and why.
    remedy
        What to do about it.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.message = message
        self.remedy = remedy


def bind_paths(paths: Iterable[Path]) -> list[Path]:
    """List what must be bound so that `paths` can be read.

    Of a file that is its folder; of a symbolic link also the folder of every file that the link
    leads over, down to the real one, because links are followed inside the container too. Of a
    file in a folder that the image needs itself, such as ``/opt``, it is the file alone.

    Parameters
    ----------
    paths
        Files and folders, with or without links. What does not exist is left out: apptainer
        refuses to start for it, and the engine has the better message.

    Returns
    -------
    list of Path
        Absolute, sorted; none lies below another. The root is never among them: the container
        has its own.

    Raises
    ------
    BindError
        When a folder would hide the image's own.
    """
    found: set[Path] = set()
    for path in paths:
        places = set(_places_of(Path(path))) - {Path("/")}
        hiding = sorted(place for place in places if _hides(place))
        if hiding:
            leads = "" if hiding[0] == Path(path) else f" ({path} leads there)"
            raise BindError(
                f"The folder {hiding[0]} cannot be shown to the container, which has its own "
                f"there{leads}.",
                remedy="Move what the run reads or writes to a folder of another name, such as "
                "/data, or run the engine without a container.",
            )
        found |= places
    return [
        place for place in sorted(found) if not any(parent in found for parent in place.parents)
    ]


def bind_options(paths: Iterable[Path]) -> list[str]:
    """Give the options of ``apptainer exec`` that make `paths` visible under their own names.

    Raises
    ------
    BindError
        As :func:`bind_paths`, and for a name that apptainer cannot be told.
    """
    return [word for place in bind_paths(paths) for word in _bind_option(str(place))]


def with_links_inside(paths: Iterable[Path]) -> Iterator[Path]:
    """Give `paths`, and the links that lie directly in those that are folders.

    A folder of tomograms often has only links in it, each to another disk. A link to a folder of
    the system is none of them.
    """
    for path in paths:
        yield path
        try:
            with os.scandir(path) as entries:
                links = [Path(entry.path) for entry in entries if entry.is_symlink()]
        except OSError:
            continue  # a file, or a folder that the engine will complain about
        for link in links:
            if not any(map(_hides, _places_of(link))):
                yield link


def _places_of(path: Path) -> list[Path]:
    """What must be seen on the way from a path to the real file."""
    if not path.exists():
        return []
    found = []
    hop = _absolute(path)
    for _ in range(LONGEST_CHAIN):
        # A folder on the way may be a link itself: then its own place is needed as well.
        real_parent = hop.parent.resolve()
        found += [_place_of(hop), _place_of(real_parent / hop.name)]
        if not hop.is_symlink():
            break
        hop = _absolute(real_parent / os.readlink(hop))
    return [*found, _place_of(path.resolve())]


def _absolute(path: Path) -> Path:
    """`path` from the root, without ``..``, its links not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow them


def _place_of(path: Path) -> Path:
    """The folder itself, or the one of a file, unless the image has that folder too."""
    if path.is_dir():
        return path
    return path if _is_the_images(path.parent) else path.parent


def _is_the_images(folder: Path) -> bool:
    """Whether the image has this folder, so that the host's may not be seen in its place."""
    names = {str(folder), *map(str, folder.parents)}
    return str(folder) in _ABOVE or not names.isdisjoint(_IMAGES_OWN)


def _hides(place: Path) -> bool:
    return _is_the_images(place) and place.is_dir()


def _bind_option(place: str) -> list[str]:
    if _PLAIN.fullmatch(place):
        return ["--bind", place]
    if "\r\n" in place:
        raise BindError(
            f"Apptainer cannot be told of {place!r}, which has the end of a line of Windows in "
            "its name.",
            remedy="Rename it.",
        )
    # Comma-separated values in quotes: --mount takes every other name.
    quoted = place.replace('"', '""')
    return ["--mount", f'type=bind,"source={quoted}","destination={quoted}"']
