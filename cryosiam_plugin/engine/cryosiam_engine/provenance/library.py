"""Finding the status file that names a file as its output."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from cryosiam_engine.status import FileIdentity, Output, Status, read_status

#: Folders above a file in which its status folder is looked for, the file's own included.
_LEVELS = 4
#: Network file systems cut times off differently on different computers.
_MTIME_TOLERANCE_NS = 2 * 10**9

Match = Literal["unchanged", "touched", "moved", "missing", "changed"]
_BEST_FIRST: tuple[Match, ...] = ("unchanged", "touched", "moved", "missing", "changed")


@dataclass(frozen=True)
class Made:
    """A status and the one of its outputs that was asked for.

    Attributes
    ----------
    status, status_file
        What made the file.
    output
        The file as it was then.
    match
        ``unchanged``; ``touched``: of the same size, but written to since (some programs open
        what they only read for writing); ``moved``: of the same name and size, and elsewhere with
        all of its folder; ``changed`` since; ``missing`` by now.
    """

    status: Status
    status_file: Path
    output: Output
    match: Match


def makers(path: Path) -> list[Made]:
    """Find what made a file.

    Parameters
    ----------
    path
        The file, or a link to it. It need not be there any more.

    Returns
    -------
    list of Made
        In the order in which they wrote the file, since some commands change files in place;
        empty where no status file near it names it.
    """
    real = path.resolve()
    found: dict[Path, Made] = {}
    for folder in _status_folders(path, real):
        for status_file, status, output in outputs_of(folder).get(real.name, ()):
            match = _match(real, output.file, folder.resolve().parent)
            if match:
                found[status_file] = Made(status, status_file, output, match)
    best = next((m for m in _BEST_FIRST if any(made.match == m for made in found.values())), None)
    if best in ("unchanged", "touched", "moved"):
        # A file that was made again under its name is no result of who made it before.
        found = {key: made for key, made in found.items() if made.match == best}
    return sorted(found.values(), key=_time)


def _status_folders(*paths: Path) -> Iterator[Path]:
    folders = {
        f / "status": None for path in paths for f in list(path.absolute().parents)[:_LEVELS]
    }
    yield from (folder for folder in folders if folder.is_dir())


@lru_cache(maxsize=32)
def outputs_of(folder: Path) -> dict[str, list[tuple[Path, Status, Output]]]:
    """Every output that the status files of a folder name, by its file name."""
    outputs: dict[str, list[tuple[Path, Status, Output]]] = defaultdict(list)
    for file in sorted(folder.rglob("*.json")):
        status = read_status(file.parent, file.name.removesuffix(".json"))
        if status is None or status.state != "done":
            continue
        for output in status.outputs:
            outputs[Path(output.file.path).name].append((file, status, output))
    return dict(outputs)


def _match(real: Path, made: FileIdentity, folder: Path) -> Match | None:
    """How a file and an output of the same name belong together; None: they do not.

    A raw tomogram below the folder of the results has the name and the size of the denoised one,
    but another place in it.
    """
    same_path = str(real) == made.path
    try:
        now = real.stat()
    except OSError:
        return "missing" if same_path else None
    if not same_path:
        inside = real.relative_to(folder).parts if real.is_relative_to(folder) else ()
        same_place = inside and Path(made.path).parts[-len(inside) :] == inside
        return "moved" if same_place and now.st_size == made.size else None
    if now.st_size != made.size:
        return "changed"
    apart = abs(now.st_mtime_ns - made.mtime_ns)
    return "unchanged" if apart < _MTIME_TOLERANCE_NS else "touched"


def _time(made: Made) -> tuple[str, bool]:
    # Within one second a prediction comes before what works on its results.
    return made.status.updated, not made.status.command.endswith("_predict")
