"""Tomograms and label volumes: MRC files in and out, with their geometry."""

from __future__ import annotations

import bz2
import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from cryosiam_engine.errors import TomogramError
from cryosiam_engine.volume.header import (
    HEADER_BYTES,
    MAP_MARK,
    MrcLayout,
    VolumeHeader,
    parse_header,
)


@dataclass
class Volume:
    """A volume in memory.

    Attributes
    ----------
    data
        Voxels `(z, y, x)`, in the file's own type, contiguous and of this machine's byte order.
    header
        Geometry.
    path
        The file it was read from.
    """

    data: np.ndarray
    header: VolumeHeader
    path: Path


def read_header(path: str | Path) -> VolumeHeader:
    """Read the geometry of an MRC file, without its voxels.

    Parameters
    ----------
    path
        MRC file of any name, plain or compressed with gzip or bzip2.

    Returns
    -------
    VolumeHeader
        Shape, voxel size, origin.

    Raises
    ------
    TomogramError
        As :func:`read_volume`; of compressed files only the beginning is looked at.
    """
    path = Path(path)
    with _open(path) as (stream, size):
        return _read_layout(stream, size, path).header


def read_volume(path: str | Path) -> Volume:
    """Read an MRC file.

    Modes 0 (int8, or uint8 where IMOD says so), 1 (int16), 2 (float32), 6 (uint16) and 12
    (float16) are read, in either byte order, with any extended header.

    Parameters
    ----------
    path
        MRC file of any name, plain or compressed with gzip or bzip2.

    Returns
    -------
    Volume
        Voxels `(z, y, x)` and geometry.

    Raises
    ------
    TomogramError
        When the file is missing, empty, cut off, damaged, not an MRC file or not a volume.
    """
    path = Path(path)
    with _open(path) as (stream, size):
        layout = _read_layout(stream, size, path)
        data = _read_voxels(stream, layout, path)
        if size is None:
            _read_to_end(stream)
    if not data.dtype.isnative:
        data = data.byteswap(inplace=True).view(data.dtype.newbyteorder("="))
    data = np.ascontiguousarray(data.reshape(layout.stored_shape).transpose(layout.axes))
    return Volume(data, layout.header, path)


@contextmanager
def _open(path: Path) -> Iterator[tuple[BufferedIOBase, int | None]]:
    """Open a file for reading, unpacking it if needed; give the stream and the size if known.

    What goes wrong while the stream is used is turned into an error for the user here.
    """
    if not path.exists():
        raise TomogramError(
            f"{path} is a link to a file that does not exist."
            if path.is_symlink()
            else f"{path} does not exist.",
            remedy="Check data_folder, file_extension and the name of the tomogram.",
        )
    if not path.is_file():
        raise TomogramError(
            f"{path} is not a file.", remedy="Name the tomogram itself, not its folder."
        )
    try:
        with path.open("rb") as raw:
            start = raw.read(HEADER_BYTES)
            raw.seek(0)
            if start[MAP_MARK] != b"MAP " and start[:3] == b"\x1f\x8b\x08":
                with gzip.open(raw) as stream:
                    yield stream, None
            elif start[MAP_MARK] != b"MAP " and start[:3] == b"BZh":
                with bz2.open(raw) as stream:
                    yield stream, None
            else:
                yield raw, os.fstat(raw.fileno()).st_size
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TomogramError(
            f"{path} is damaged or cut off: it cannot be uncompressed ({error}).",
            remedy="Copy it again.",
        ) from error
    except OSError as error:
        raise TomogramError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="Check its permissions and the disk, or copy it again.",
        ) from error


def _read_layout(stream: BufferedIOBase, size: int | None, path: Path) -> MrcLayout:
    """Read and check the header; `size` is that of the file in bytes, if known beforehand."""
    raw = stream.read(HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        raise TomogramError(
            f"{path} is not an MRC file: it has only {len(raw)} bytes, less than a header."
            if raw
            else f"{path} is empty.",
            remedy="Reconstruct or copy this tomogram again.",
        )
    layout = parse_header(raw, path)
    if size is not None and size < layout.end:
        raise _cut_off(path, layout.end - size, layout)
    return layout


def _read_voxels(stream: BufferedIOBase, layout: MrcLayout, path: Path) -> np.ndarray:
    """Read all voxels `(n,)` in the file's byte order, straight into the array."""
    stream.seek(layout.offset)
    data = np.empty(math.prod(layout.stored_shape), dtype=layout.dtype)
    buffer = data.view(np.uint8).data
    filled = 0
    while filled < len(buffer):
        count = stream.readinto(buffer[filled:])
        if not count:
            raise _cut_off(path, len(buffer) - filled, layout)
        filled += count
    return data


def _read_to_end(stream: BufferedIOBase) -> None:
    """Unpack the rest: only at its end is the checksum of a compressed file compared."""
    while stream.read(HEADER_BYTES**2):
        pass


def _cut_off(path: Path, missing: int, layout: MrcLayout) -> TomogramError:
    return TomogramError(
        f"{path} is cut off: {missing} of {layout.end} bytes are missing.",
        remedy="It was probably copied before it was complete: copy it again.",
    )
