"""What a run says: short lines on the terminal, everything in a file beside the results."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryosiam_engine.files import output_error

_ENGINE = logging.getLogger("cryosiam_engine")


@contextmanager
def log_to_terminal() -> Iterator[None]:
    """Show the engine's messages on standard error while the block runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)-7s %(message)s"))
    handler.setLevel(logging.INFO)
    _ENGINE.addHandler(handler)
    _ENGINE.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        _ENGINE.removeHandler(handler)


@contextmanager
def log_to_file(prediction_folder: Path, command: str) -> Iterator[Path]:
    """Also write all messages to ``<prediction_folder>/logs/<command>_<time>_<process>.log``.

    Raises
    ------
    OutputError
        When the folder cannot be written: better known before hours of computing.
    """
    started = time.strftime("%Y%m%d-%H%M%S")
    path = prediction_folder / "logs" / f"{command}_{started}_{os.getpid()}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise output_error(error, path) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    _ENGINE.addHandler(handler)
    try:
        yield path
    except BaseException as error:
        _ENGINE.debug("The run ended early.", exc_info=error)
        raise
    finally:
        _ENGINE.removeHandler(handler)
        handler.close()
