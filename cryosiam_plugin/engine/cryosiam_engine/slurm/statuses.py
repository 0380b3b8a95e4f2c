"""The engine's status files, as far as a job array needs them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Iterable

DONE, FAILED = "done", "failed"


def read_status(folder: Path, stem: str) -> dict[str, Any]:
    """Read a tomogram's status; empty where there is none that can be read (yet)."""
    try:
        values = json.loads((Path(folder) / f"{stem}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def is_newer(folder: Path, stem: str, than: float) -> bool:
    """Whether the status was written after a time, in seconds since 1970."""
    try:
        return (Path(folder) / f"{stem}.json").stat().st_mtime > than
    except OSError:
        return False


def is_whole(status: dict[str, Any]) -> bool:
    """Whether the tomogram is done, and not a training that a queue asked to pause."""
    stopped_by = str((status.get("summary") or {}).get("stopped_by") or "")
    # Who stops a training by its STOP file wants the model that there is by then.
    return status.get("state") == DONE and (not stopped_by or stopped_by.startswith("the file"))


def seconds_of(status: dict[str, Any]) -> float:
    """How long the tomogram took, all stages together."""
    stages = status.get("seconds") or {}
    return float(sum(value for value in stages.values() if isinstance(value, (int, float))))


def forget_unfinished(folder: Path, stems: Iterable[str]) -> None:
    """Remove statuses of earlier failures, so that they are not taken for new ones."""
    try:
        there = {entry.name for entry in os.scandir(folder)}
    except OSError:
        return
    for stem in stems:
        if f"{stem}.json" in there and read_status(folder, stem).get("state") != DONE:
            (Path(folder) / f"{stem}.json").unlink()


def look_again(folder: Path) -> None:
    """Have a network file system ask its server what is in the folder."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError:
        pass
