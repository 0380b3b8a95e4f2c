"""Progress of a run: bars on a terminal, a plain line every few seconds in a log."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger(__name__)

#: Seconds between two plain lines where there is no terminal.
LINE_SECONDS = 5.0


class RunProgress:
    """Shows how far a run over several tomograms is.

    Parameters
    ----------
    n_tomograms
        Tomograms that this run computes.
    stream
        Where the bars are drawn; bars only if it is a terminal.
    """

    def __init__(self, n_tomograms: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._n_tomograms = n_tomograms
        self._index = 0
        self._name = ""
        self._started = self._last_line = 0.0
        self._bars: tuple[tqdm, tqdm] | None = None

    def __enter__(self) -> RunProgress:
        if self._terminal:
            options = {"file": self._stream, "dynamic_ncols": True, "leave": False}
            self._redirect = logging_redirect_tqdm([logging.getLogger("cryosiam_engine")])
            self._redirect.__enter__()
            self._bars = (
                tqdm(total=self._n_tomograms, unit=" tomogram", desc="all", position=1, **options),
                tqdm(total=0, unit=" tile", position=0, **options),
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars:
            for bar in self._bars:
                bar.close()
            self._redirect.__exit__(kind, error, traceback)

    def start(self, name: str) -> None:
        """Begin the next tomogram."""
        self._index += 1
        self._name = name
        self._started = self._last_line = time.monotonic()
        if self._bars:
            self._bars[1].reset(total=0)
            self._bars[1].set_description(name)

    def tiles(self, done: int, total: int) -> None:
        """Say that `done` of `total` tiles of the current tomogram are finished."""
        if self._bars:
            self._bars[1].total = total
            self._bars[1].n = done
            self._bars[1].refresh()
            return
        now = time.monotonic()
        if now - self._last_line >= LINE_SECONDS and done:
            self._last_line = now
            left = (now - self._started) / done * (total - done)
            logger.info(
                "%s (%d of %d): tile %d of %d, %d %%, about %s left",
                self._name,
                self._index,
                self._n_tomograms,
                done,
                total,
                100 * done // total,
                tqdm.format_interval(left),
            )

    def finish(self) -> None:
        """Count one tomogram as finished, whatever became of it."""
        if self._bars:
            self._bars[0].update()
            self._bars[0].refresh()
