"""Volumes that stay on the disk: only the voxels of a patch are read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.embeddings.patches import Box, Shape
from cryosiam_engine.errors import TomogramError
from cryosiam_engine.volume import read_header
from cryosiam_engine.volume.header import HEADER_BYTES, parse_header

#: Maps are kept open: opening one for every patch would cost more than reading the patch.
_OPEN_MAPS = 128


def mapped_volume(path: Path) -> NDArray[Any]:
    """Map an MRC file into memory without reading it.

    Parameters
    ----------
    path
        The file, not compressed.

    Returns
    -------
    numpy.ndarray
        Read-only voxels `(z, y, x)`, of the file's type and byte order.

    Raises
    ------
    TomogramError
        When it cannot be read, is compressed, or is no volume.
    """
    try:
        state = path.stat()
    except OSError:
        read_header(path)  # which says what is wrong
        raise
    return _mapped(path, state.st_mtime_ns, state.st_size)


@lru_cache(_OPEN_MAPS)
def _mapped(path: Path, _mtime_ns: int, _size: int) -> NDArray[Any]:
    """Map a file; one that was replaced is mapped anew."""
    read_header(path)  # every check and message of an ordinary reading
    with path.open("rb") as stream:
        start = stream.read(HEADER_BYTES)
    if start[:2] == b"\x1f\x8b" or start[:3] == b"BZh":
        raise TomogramError(
            f"{path} is compressed: patches cannot be read from it without unpacking all of it.",
            remedy="Unpack it (gunzip, bunzip2) before the training.",
        )
    layout = parse_header(start, path)
    stored = np.memmap(path, layout.dtype, "r", layout.offset, layout.stored_shape)
    return stored.transpose(layout.axes)


def cut_mirrored(
    volume: NDArray[Any], region: Box, start: tuple[int, int, int], shape: Shape
) -> NDArray[Any]:
    """Cut a box; what lies outside of `region` is its mirror image.

    Parameters
    ----------
    volume
        `(..., z, y, x)`; leading axes are kept whole.
    region
        The part of the volume that may be read.
    start
        First voxel of the box (z, y, x); may lie outside.
    shape
        Voxels of the box.

    Returns
    -------
    numpy.ndarray
        A copy `(..., z, y, x)` in the volume's type and this machine's byte order.
    """
    axes = [
        _mirrored(np.arange(first, first + size), low, high)
        for first, size, low, high in zip(start, shape, region.start, region.stop, strict=True)
    ]
    depth, rows, columns = (slice(int(axis.min()), int(axis.max()) + 1) for axis in axes)
    part = np.ascontiguousarray(volume[..., depth, rows, columns])
    part = part.astype(part.dtype.newbyteorder("="), copy=False)
    if all((np.diff(axis) == 1).all() for axis in axes):
        return part
    z, y, x = np.ix_(*(axis - axis.min() for axis in axes))
    return part[..., z, y, x]


def _mirrored(places: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """Reflect places at both ends of ``range(low, high)``; the voxels at the ends are doubled."""
    length = high - low
    folded = (places - low) % (2 * length)
    return low + np.minimum(folded, 2 * length - 1 - folded)
