"""What the host does to MRC files without reading their voxels."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from cryosiam_plugin.constants import VOXEL_SIZE_TOLERANCE

HEADER_BYTES = 1024
_MAP_AT, _STAMP_AT = 208, 212
_SIZES_AT, _INTERVALS_AT, _CELL_AT = 0, 28, 40
_ORDERS = {b"\x44": "<", b"\x11": ">"}
_COMPRESSED = (b"\x1f\x8b", b"BZh")
LONGEST_AXIS = 2**16
MODES = (0, 1, 2, 6, 12)


def is_mrc(path: Path) -> bool:
    """Whether a file is what the engine reads: MRC of any name, also compressed."""
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES)
    if header.startswith(_COMPRESSED):
        return True
    return len(header) == HEADER_BYTES and (
        header[_MAP_AT : _MAP_AT + 3] == b"MAP" or _has_plausible_sizes(header)
    )


def read_voxel_size(path: Path) -> float:
    """Read the voxel size along x from a header, in Å; 0 where the header has none."""
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES)
    order = _byte_order(header)
    (intervals,) = struct.unpack_from(f"{order}i", header, _INTERVALS_AT)
    (cell,) = struct.unpack_from(f"{order}f", header, _CELL_AT)
    return cell / intervals if intervals > 0 else 0.0


def write_voxel_size(path: Path, sampling_rate: float) -> bool:
    """Correct the voxel size in an MRC header, where it is another one.

    Only the header changes, and the time of change stays: the engine knows its results by it.

    Parameters
    ----------
    path
        An MRC file that is ours; uncompressed.
    sampling_rate
        Å per voxel.

    Returns
    -------
    bool
        Whether the header was changed.
    """
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES)
    order = _byte_order(header)
    intervals = struct.unpack_from(f"{order}3i", header, _INTERVALS_AT)
    cell = struct.unpack_from(f"{order}3f", header, _CELL_AT)
    wanted = [number * sampling_rate for number in intervals]
    tolerance = VOXEL_SIZE_TOLERANCE * sampling_rate
    if all(abs(a - b) <= tolerance * n for a, b, n in zip(cell, wanted, intervals)):
        return False
    before = path.stat()
    with path.open("r+b") as stream:
        stream.seek(_CELL_AT)
        stream.write(struct.pack(f"{order}3f", *wanted))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return True


def _byte_order(header: bytes) -> str:
    """``<`` or ``>``, from the machine stamp, or from the sizes where there is none."""
    stamp = header[_STAMP_AT : _STAMP_AT + 1]
    if stamp in _ORDERS:
        return _ORDERS[stamp]
    (columns,) = struct.unpack_from("<i", header, _SIZES_AT)
    return "<" if 0 < columns < LONGEST_AXIS else ">"


def _has_plausible_sizes(header: bytes) -> bool:
    """Old programs wrote MRC files without the word MAP."""
    *sizes, mode = struct.unpack_from(f"{_byte_order(header)}4i", header, _SIZES_AT)
    return all(0 < size < LONGEST_AXIS for size in sizes) and mode in MODES
