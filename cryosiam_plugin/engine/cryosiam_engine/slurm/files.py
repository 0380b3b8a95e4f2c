"""Files that are either whole or absent, without the rest of the engine."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, and see it on the disk: it must survive a crash of the computer.

    Parameters
    ----------
    path
        The file; missing folders above it are made.
    text
        UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        if partial.exists():
            partial.unlink()


def write_json(path: Path, values: Any) -> None:
    """Write `values` as JSON, as :func:`write_text` does."""
    write_text(path, json.dumps(values, indent=1) + "\n")


@contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Hold a lock file while the block runs.

    Yields
    ------
    bool
        False when another process holds it. A file system that knows no locks says True.
    """
    handle = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True
    finally:
        os.close(handle)


def last_words(path: Path, length: int = 600) -> str:
    """Give the end of a log on one line; empty where there is no log."""
    try:
        with Path(path).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8 * length))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(text.split())[-length:]
