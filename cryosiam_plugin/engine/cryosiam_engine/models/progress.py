"""How far downloads are: one bar for all of them on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TextIO

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cryosiam_engine.errors import EngineError
from cryosiam_engine.models.disk import disk_errors
from cryosiam_engine.progress import LINE_SECONDS

logger = logging.getLogger(__name__)


class DownloadProgress:
    """Counts the bytes of several downloads at once; used by all of their threads.

    Parameters
    ----------
    stream
        Where the bar is drawn; there is one only if it is a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._counting = threading.Lock()
        self._total = self._done = 0
        self._bar: tqdm | None = None
        self._last_line = time.monotonic()
        #: Set it to end all downloads at their next piece.
        self.stopped = threading.Event()

    def __enter__(self) -> DownloadProgress:
        if self._stream.isatty():
            self._redirect = logging_redirect_tqdm([logging.getLogger("cryosiam_engine")])
            self._redirect.__enter__()
            self._bar = tqdm(
                total=0,
                file=self._stream,
                dynamic_ncols=True,
                unit="B",
                unit_scale=True,
                desc="models",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
            self._redirect.__exit__(kind, error, traceback)

    def expect(self, size: int, there: int) -> None:
        """Count on a file of `size` bytes, `there` of which an earlier run has brought."""
        with self._counting:
            self._total += size
            self._done += there
            if self._bar is not None:
                self._bar.total, self._bar.initial = self._total, self._bar.initial + there
                self._bar.update(there)

    def count(self, size: int) -> None:
        """Count bytes that have arrived (or, below 0, that have to come again)."""
        with self._counting:
            self._done += size
            if self._bar is not None:
                self._bar.update(size)
            elif time.monotonic() - self._last_line >= LINE_SECONDS:
                self._last_line = time.monotonic()
                logger.info("%.0f of %.0f MB", self._done / 1e6, self._total / 1e6)

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the downloads go on.

        Raises
        ------
        EngineError
            When the downloads are stopped.
        """
        if self.stopped.wait(seconds):
            raise _stopped()


class CountedFile:
    """A file whose writing is counted, and ends when the downloads are stopped.

    What the disk refuses is told as such: whoever fills the file from a network would else take
    it for an error of the network.

    Parameters
    ----------
    file
        Open for writing.
    path
        What it will be called, for messages.
    progress
        What counts.
    """

    def __init__(self, file: BinaryIO, path: Path, progress: DownloadProgress) -> None:
        self._file = file
        self._path = path
        self._progress = progress

    def write(self, piece: bytes) -> int:
        """Write and count.

        Raises
        ------
        EngineError
            When the downloads are stopped.
        OutputError
            When the disk is full or broken.
        """
        if self._progress.stopped.is_set():
            raise _stopped()
        with disk_errors(self._path):
            self._file.write(piece)
        self._progress.count(len(piece))
        return len(piece)

    def tell(self) -> int:
        """The position in the file."""
        return self._file.tell()

    def seek(self, position: int, whence: int = 0) -> int:
        """Go to another position, which takes back what was counted behind it.

        Raises
        ------
        OutputError
            When the disk is full or broken: what was written before goes there now.
        """
        before = self._file.tell()
        with disk_errors(self._path):
            now = self._file.seek(position, whence)
        self._progress.count(now - before)
        return now

    def truncate(self, size: int | None = None) -> int:
        """Cut the file off.

        Raises
        ------
        OutputError
            When the disk is full or broken.
        """
        with disk_errors(self._path):
            return self._file.truncate(size)


def _stopped() -> EngineError:
    return EngineError("The download was stopped.")
