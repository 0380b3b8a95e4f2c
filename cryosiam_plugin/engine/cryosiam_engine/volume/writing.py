"""Writing volumes as MRC files: types that MRC has, a true header, all or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from mrcfile import utils
from mrcfile.constants import MAP_ID
from mrcfile.dtypes import HEADER_DTYPE

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import atomic_path
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.volume.checks import RunningStatistics
from cryosiam_engine.volume.header import HEADER_BYTES, VolumeHeader


def write_mrc(
    path: str | Path,
    data: np.ndarray,
    *,
    voxel_size: float | tuple[float, float, float],
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    nstart: tuple[int, int, int] = (0, 0, 0),
) -> None:
    """Write a volume to an MRC file, which is either whole or absent.

    float32, float16, int8, int16 and uint16 are written as they are. MRC has no other types:
    float64 becomes float32, bool becomes int8, and other integers the smallest of int8 (uint8
    only), int16 and uint16 that holds their values.

    Parameters
    ----------
    path
        The file; missing folders are made.
    data
        Volume `(z, y, x)`.
    voxel_size
        In Å: one number, or `(x, y, z)`.
    origin
        `(x, y, z)` in Å.
    nstart
        Index of the first voxel along `(x, y, z)`.

    Raises
    ------
    ConfigurationError
        When integers are too large for MRC, as ids of more than 65535 instances are.
    OutputError
        When the system refuses to write: no space, no permission.
    ValueError
        When `data` is not three-dimensional, or is empty.
    """
    if data.ndim != 3 or data.size == 0:
        raise ValueError(f"a volume (z, y, x) is needed, not an array of shape {data.shape}")
    size_x, size_y, size_z = np.broadcast_to(np.asarray(voxel_size, dtype=np.float64), 3).tolist()
    dtype = _mrc_dtype(data, Path(path))
    statistics = RunningStatistics()
    # Plain writes rather than a memory map: a full disk is an error here, a crash (SIGBUS) there.
    with atomic_path(path) as partial, partial.open("wb") as stream:
        stream.write(bytes(HEADER_BYTES))
        for part in slabs(data.shape):
            converted = np.ascontiguousarray(data[part], dtype=dtype)
            # One section at a time stays in the processor's cache: four times faster.
            for section in converted:
                statistics.add(section)
            stream.write(converted.data)
        header = make_header(
            data.shape,
            dtype,
            statistics,
            voxel_size=(size_x, size_y, size_z),
            origin=origin,
            nstart=nstart,
        )
        stream.seek(0)
        stream.write(header)
        # Network file systems report a full disk or quota only now.
        stream.flush()
        os.fsync(stream.fileno())


def write_mrc_like(path: str | Path, data: np.ndarray, header: VolumeHeader) -> None:
    """Write a volume with the voxel size, origin and start of another one.

    Parameters
    ----------
    path
        The file; missing folders are made.
    data
        Volume `(z, y, x)`.
    header
        Of the tomogram that `data` was made from.

    Raises
    ------
    ConfigurationError, OutputError, ValueError
        As :func:`write_mrc`.
    """
    write_mrc(
        path,
        data,
        voxel_size=header.voxel_size,
        origin=header.origin,
        nstart=header.nstart,
    )


def _mrc_dtype(data: np.ndarray, path: Path) -> np.dtype:
    """The little-endian type in which MRC can store `data`."""
    kind, size = data.dtype.kind, data.dtype.itemsize
    if kind == "f":
        return np.dtype("<f2" if size == 2 else "<f4")
    if kind == "b":
        return np.dtype("i1")
    if kind not in "iu":
        raise TypeError(f"MRC cannot store {data.dtype}")
    if data.dtype.newbyteorder("<") in (np.dtype("i1"), np.dtype("<i2"), np.dtype("<u2")):
        return data.dtype.newbyteorder("<")
    low, high = int(data.min()), int(data.max())
    candidates = ("i1", "<u2") if size == 1 else ("<i2", "<u2")
    for candidate in candidates:
        if np.iinfo(candidate).min <= low and high <= np.iinfo(candidate).max:
            return np.dtype(candidate)
    raise ConfigurationError(
        f"{path} cannot be written: its values go from {low} to {high}, and MRC stores at most "
        "65535 instances (or -32768 to 32767).",
        remedy="Ask for HDF5 (.h5) output, which has no such limit.",
    )


def make_header(
    shape: tuple[int, ...],
    dtype: np.dtype,
    statistics: RunningStatistics,
    *,
    voxel_size: tuple[float, float, float],
    origin: tuple[float, float, float],
    nstart: tuple[int, int, int],
) -> bytes:
    """Make the header of a volume (MRC2014, little-endian, space group 1).

    Parameters
    ----------
    shape
        Voxels along `(z, y, x)`.
    dtype
        Of the voxels as they are written.
    statistics
        Of all its voxels.
    voxel_size, origin
        `(x, y, z)` in Å.
    nstart
        Index of the first voxel along `(x, y, z)`.

    Returns
    -------
    bytes
        1024 bytes.
    """
    record = np.zeros((), dtype=HEADER_DTYPE.newbyteorder("<"))
    for axis, length, size, start, shift in zip(
        "xyz", shape[::-1], voxel_size, nstart, origin, strict=True
    ):
        record[f"n{axis}"] = record[f"m{axis}"] = length
        record["cella"][axis] = size * length
        record[f"n{axis}start"] = start
        record["origin"][axis] = shift
    record["mode"] = utils.mode_from_dtype(dtype)
    for angle in ("alpha", "beta", "gamma"):
        record["cellb"][angle] = 90
    record["mapc"], record["mapr"], record["maps"] = 1, 2, 3
    record["dmin"], record["dmax"] = statistics.minimum, statistics.maximum
    record["dmean"], record["rms"] = statistics.mean, statistics.deviation
    record["ispg"] = 1
    record["nversion"] = 20140
    record["map"] = MAP_ID
    record["machst"] = list(utils.machine_stamp_from_byte_order("<"))
    # No date: the same result shall give the same bytes.
    record["nlabl"] = 1
    record["label"][0] = b"cryosiam-engine"
    return record.tobytes()
