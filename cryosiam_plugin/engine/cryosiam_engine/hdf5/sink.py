"""A file that HDF5 writes through, and that keeps errors of the disk away from HDF5."""

from __future__ import annotations

import io
import os
from pathlib import Path


class DiskSink(io.RawIOBase):
    """A new file whose write errors are remembered and not raised.

    When the disk is full the HDF5 library reports success for small datasets, cannot close its
    file any more, and ends the process with a segmentation fault. So HDF5 is told that every
    write went well, and whoever holds the sink asks :meth:`check`.

    Parameters
    ----------
    path
        The file; an existing one is emptied.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = 0
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise the first error that the disk reported, if there was one."""
        if self._failure:
            raise self._failure

    def finish(self) -> None:
        """Make sure that everything is on the disk.

        Raises
        ------
        OSError
            The first error. Network file systems report a full disk or quota only here.
        """
        self.check()
        os.fsync(self._descriptor)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer`; what was never written reads as zeros, as in a sparse file."""
        content = os.pread(self._descriptor, len(buffer), self._position)
        buffer[: len(content)] = content
        buffer[len(content) :] = bytes(len(buffer) - len(content))
        self._position += len(buffer)
        return len(buffer)

    def write(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Write `buffer` at the current position; always says that all of it was written."""
        done = 0
        try:
            while done < len(buffer):
                done += os.pwrite(self._descriptor, buffer[done:], self._position + done)
        except OSError as error:
            self._failure = self._failure or error
        self._position += len(buffer)
        return len(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position: from the start, from here, or from the end."""
        start = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: os.fstat(self._descriptor).st_size,
        }[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The current position."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the length of the file."""
        size = self._position if size is None else size
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self._failure = self._failure or error
        return size

    def close(self) -> None:
        """Close the file, once."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
