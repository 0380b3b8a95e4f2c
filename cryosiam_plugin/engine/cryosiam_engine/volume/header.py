"""What the 1024 bytes at the start of an MRC file say about the volume in it."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mrcfile import utils
from mrcfile.dtypes import HEADER_DTYPE

from cryosiam_engine.errors import TomogramError

logger = logging.getLogger(__name__)

HEADER_BYTES = 1024

#: Where an MRC file says "MAP ".
MAP_MARK = slice(208, 212)

#: Modes of real numbers. Mode 0 is signed unless IMOD's flags say otherwise.
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}

_UNREADABLE_MODES = {
    3: "complex numbers (a Fourier transform)",
    4: "complex numbers (a Fourier transform)",
    16: "colours",
    101: "4-bit numbers",
}

# IMOD marks its files in the "extra" words: stamp at byte 152, flags at byte 156 of the header.
_IMOD_STAMP = 1146047817
_IMOD_STAMP_OFFSET = 152
_IMOD_SIGNED_BYTES = 1

# The axis numbers of columns, rows and sections in nearly every file: x, y, z.
_USUAL_AXES = (1, 2, 3)

# A length below this becomes a multiple of it when read in the wrong byte order, so that the two
# orders cannot both look right.
_MAX_LENGTH = 2**16

# Space groups that mean "several volumes in one file".
_VOLUME_STACKS = range(401, 631)


@dataclass(frozen=True)
class VolumeHeader:
    """Geometry of a volume.

    Attributes
    ----------
    shape
        Voxels along `(z, y, x)`.
    voxel_size
        Along `(x, y, z)`, in Å; 0 where the file does not say.
    origin
        `(x, y, z)` in Å, with the sign that the file has.
    nstart
        Index of the first voxel along `(x, y, z)`.
    mode
        MRC mode: 0 bytes, 1 int16, 2 float32, 6 uint16, 12 float16.
    """

    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    nstart: tuple[int, int, int]
    mode: int


@dataclass(frozen=True)
class MrcLayout:
    """Where and how the voxels of one file are stored.

    Attributes
    ----------
    header
        Geometry, already in `(z, y, x)`.
    dtype
        Voxel type in the file's byte order.
    offset
        Bytes before the first voxel: header and extended header.
    stored_shape
        `(sections, rows, columns)`.
    axes
        Transposition of the stored axes that gives `(z, y, x)`.
    """

    header: VolumeHeader
    dtype: np.dtype
    offset: int
    stored_shape: tuple[int, int, int]
    axes: tuple[int, int, int]

    @property
    def end(self) -> int:
        """Bytes that the file must at least have."""
        return self.offset + math.prod(self.stored_shape) * self.dtype.itemsize


def parse_header(raw: bytes, path: Path) -> MrcLayout:
    """Understand the header of an MRC file, as far as the file is sound.

    A missing "MAP" mark or a wrong machine stamp is forgiven (old programs write neither), and
    the type of extended header does not matter. Bytes are unsigned where IMOD's flags say so.
    Axes that are stored in another order are to be transposed rather than refused: the standard
    is clear about what they mean, and a viewer that follows it shows the result in its place.

    Parameters
    ----------
    raw
        The first 1024 bytes.
    path
        The file, named in errors.

    Raises
    ------
    TomogramError
        When this is no MRC file, no volume, or a kind of number that cannot be read.
    """
    record = _decode(raw, path)
    stored_shape = (int(record["nz"]), int(record["ny"]), int(record["nx"]))
    codes = _axis_codes(record, path)
    sections_first = codes[::-1]
    axes = (sections_first.index(3), sections_first.index(2), sections_first.index(1))
    shape = (stored_shape[axes[0]], stored_shape[axes[1]], stored_shape[axes[2]])
    _check_shape(shape, record, path)
    starts = dict(zip(codes, (record[f"n{axis}start"] for axis in "xyz"), strict=True))
    header = VolumeHeader(
        shape=shape,
        voxel_size=_voxel_size(record, path),
        origin=(
            float(record["origin"]["x"]),
            float(record["origin"]["y"]),
            float(record["origin"]["z"]),
        ),
        nstart=(int(starts[1]), int(starts[2]), int(starts[3])),
        mode=int(record["mode"]),
    )
    offset = HEADER_BYTES + int(record["nsymbt"])
    return MrcLayout(header, _dtype(record, raw, path), offset, stored_shape, axes)


def _decode(raw: bytes, path: Path) -> np.void:
    """The header's fields, in the byte order in which they make sense."""
    stamp_offset = HEADER_DTYPE.fields["machst"][1]
    try:
        stamped = utils.byte_order_from_machine_stamp(raw[stamp_offset : stamp_offset + 2])
    except ValueError:
        stamped = "<"
    for order in (stamped, "<" if stamped == ">" else ">"):
        record = np.frombuffer(raw, dtype=HEADER_DTYPE.newbyteorder(order))[0]
        lengths = [int(record[field]) for field in ("nx", "ny", "nz")]
        if (
            all(0 <= length < _MAX_LENGTH for length in lengths)
            and 0 <= record["mode"] < _MAX_LENGTH
            and record["nsymbt"] >= 0
        ):
            return record
    raise TomogramError(
        f"{path} is not an MRC file: its header makes no sense in either byte order.",
        remedy="Check that this is the reconstructed tomogram (.mrc, .rec or .map), and copy or "
        "convert it again.",
    )


def _axis_codes(record: np.void, path: Path) -> tuple[int, int, int]:
    """Which of 1 = x, 2 = y, 3 = z the columns, rows and sections are."""
    codes = (int(record["mapc"]), int(record["mapr"]), int(record["maps"]))
    if codes == _USUAL_AXES:
        return codes
    if sorted(codes) == [1, 2, 3]:
        logger.warning("%s stores its axes in the order %s; they are transposed.", path, codes)
        return codes
    if any(codes):
        logger.warning("%s: the axis order %s makes no sense; taken as x, y, z.", path, codes)
    return _USUAL_AXES


def _check_shape(shape: tuple[int, int, int], record: np.void, path: Path) -> None:
    """Refuse what is not one volume."""
    size = " x ".join(str(length) for length in shape)
    if 0 in shape:
        raise TomogramError(
            f"{path} holds no voxels: its size is {size} (z, y, x).",
            remedy="Reconstruct or copy this tomogram again.",
        )
    if shape[0] == 1:
        raise TomogramError(
            f"{path} is a two-dimensional image ({size}), not a tomogram.",
            remedy="Give the reconstructed volume, not a projection, a slice or a micrograph.",
        )
    if record["ispg"] in _VOLUME_STACKS and 0 < record["mz"] != record["nz"]:
        raise TomogramError(
            f"{path} is a stack of several volumes.",
            remedy="Split it into one file per tomogram.",
        )


def _voxel_size(record: np.void, path: Path) -> tuple[float, float, float]:
    """Cell edge by sampling intervals along `(x, y, z)`, in Å; 0 where the header has none."""
    sizes = []
    for axis in "xyz":
        edge, intervals = float(record["cella"][axis]), int(record[f"m{axis}"])
        known = intervals > 0 and math.isfinite(edge) and edge > 0
        sizes.append(edge / intervals if known else 0.0)
    if 0.0 in sizes:
        logger.warning(
            "%s has no voxel size in its header; coordinates in Å cannot be computed from it.",
            path,
        )
    return (sizes[0], sizes[1], sizes[2])


def _dtype(record: np.void, raw: bytes, path: Path) -> np.dtype:
    """Voxel type in the file's byte order."""
    mode = int(record["mode"])
    if mode not in MODES:
        meaning = _UNREADABLE_MODES.get(mode, "unknown")
        raise TomogramError(
            f"{path} has MRC mode {mode} ({meaning}), which is not a tomogram's.",
            remedy="Convert it to real numbers, mode 2 (float32) or 1 (int16), for instance with "
            "IMOD's newstack -mode 2.",
        )
    order = record.dtype["mode"].byteorder
    stamp, flags = np.frombuffer(raw, np.dtype("i4").newbyteorder(order), 2, _IMOD_STAMP_OFFSET)
    if mode == 0 and stamp == _IMOD_STAMP and not flags & _IMOD_SIGNED_BYTES:
        return np.dtype("u1")
    return np.dtype(MODES[mode]).newbyteorder(order)
