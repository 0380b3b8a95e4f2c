"""One line on the terminal that is always up to date; in a log, a line now and then."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

from .progress import Progress, in_words, live_line

logger = logging.getLogger(__name__)

#: Seconds between two lines where there is no terminal and nothing has changed.
LINE_SECONDS = 300.0


class LiveTable:
    """Shows how far a run is.

    Parameters
    ----------
    stream
        Where it is shown.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._last: tuple[int, ...] = ()
        self._last_time = 0.0

    def __enter__(self) -> LiveTable:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_terminal and self._last:
            self._stream.write("\n")

    def say(self, text: str) -> None:
        """Say something that stays."""
        if self._is_terminal:
            self._stream.write("\r\x1b[K")
        logger.error("%s", text)

    def show(self, progress: Progress) -> None:
        """Show the newest numbers."""
        counts = (progress.n_waiting, progress.n_running, progress.n_done, progress.n_failed)
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{live_line(progress, width)}")
            self._stream.flush()
        elif counts != self._last or time.monotonic() - self._last_time > LINE_SECONDS:
            self._last_time = time.monotonic()
            logger.info("%s", in_words(progress))
        self._last = counts
