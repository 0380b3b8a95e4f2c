"""Tomograms and masks of any size, read slice by slice from their files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cryosiam_plugin.viewers.planes import Plane, Position

#: Neighbouring slices read together where a slice holds one voxel of each row of the file: they
#: lie in the same blocks of the disk, so the next fifteen cost nothing.
_SLAB = 16

_HDF5_SUFFIXES = (".h5", ".hdf5")
_HDF5_DATASETS = ("labels", "preds", "data", "instances")


class ViewerError(Exception):
    """Something cannot be shown; the message says what and why, for the user."""


class Volume:
    """A volume `(z, y, x)` that stays in its file.

    Parameters
    ----------
    data
        Anything with `shape` and `dtype` that gives parts when indexed: a memory map, a dataset.
    voxel_size
        In Å; 0 where unknown.
    path
        The file, for messages.
    """

    def __init__(self, data: Any, voxel_size: float, path: Path) -> None:
        self.data = data
        self.voxel_size = voxel_size
        self.path = path
        self._slab: tuple[int, np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels, `(z, y, x)`."""
        return self.data.shape

    def slice(self, plane: Plane, index: int) -> np.ndarray:
        """The slice of a plane, `(row, column)`: rows count up the screen.

        Raises
        ------
        ViewerError
            When the file can no longer be read.
        """
        try:
            if plane.axis == 0:
                return self.data[index]
            if plane.axis == 1:
                return self.data[:, index]
            return self._from_slab(index)
        except (OSError, ValueError) as error:
            raise ViewerError(f"{self.path} cannot be read: {error}") from error

    def _from_slab(self, index: int) -> np.ndarray:
        first = index - index % _SLAB
        if self._slab is None or self._slab[0] != first:
            self._slab = first, np.array(self.data[:, :, first : first + _SLAB])
        return self._slab[1][:, :, index - first]

    def contains(self, position: Position) -> bool:
        """Whether a position lies in the volume."""
        return all(-0.5 <= p < n - 0.5 for p, n in zip(position, self.shape))

    def value(self, position: Position) -> float | None:
        """The value of the voxel at a position `(z, y, x)`; None outside the volume."""
        if not self.contains(position):
            return None
        z, y, x = (int(np.floor(p + 0.5)) for p in position)
        return float(self.data[z, y, x])


def open_volume(path: str | Path, voxel_size: float = 0.0) -> Volume:
    """Open a tomogram or mask without reading it.

    Parameters
    ----------
    path
        An MRC file (`.mrc`, `.rec`, `.map`, `.st`) of any data mode or an HDF5 file of CryoSiam.
    voxel_size
        In Å, where it is known better than the file's header knows it; 0 takes the header's.

    Raises
    ------
    ViewerError
        When the file is absent, damaged or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise ViewerError(f"{path} does not exist. Was it moved or deleted after the run?")
    try:
        if path.suffix.lower() in _HDF5_SUFFIXES:
            data, header = _open_hdf5(path), 0.0
        else:
            data, header = _open_mrc(path)
    except (OSError, ValueError, KeyError) as error:
        raise ViewerError(f"{path} cannot be opened as an MRC or HDF5 volume: {error}") from error
    if len(data.shape) != 3 or 0 in data.shape or np.dtype(data.dtype).kind == "c":
        raise ViewerError(
            f"{path} is not a volume of real numbers: shape {data.shape}, type {data.dtype}."
        )
    return Volume(data, voxel_size or header, path)


def _open_mrc(path: Path) -> tuple[Any, float]:
    # Imported here: the rest of the viewer's model needs numpy only.
    import mrcfile

    with warnings.catch_warnings():
        # Odd headers are common and do no harm here; what cannot be read raises below.
        warnings.simplefilter("ignore")
        try:
            mrc = mrcfile.mmap(path, mode="r", permissive=True)
        except ValueError:
            # Compressed files and packed numbers have no map; they are read whole.
            mrc = mrcfile.open(path, mode="r", permissive=True)
        voxel_size = float(mrc.voxel_size.x)
    if mrc.data is None:
        raise ValueError("it holds less data than its header announces, or it is no MRC file")
    data = mrc.data if mrc.data.ndim != 2 else mrc.data[np.newaxis]
    return data, voxel_size if np.isfinite(voxel_size) else 0.0


def _open_hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ValueError("h5py is not installed here; give the MRC file instead") from error
    file = h5py.File(path, "r")
    for name in (*_HDF5_DATASETS, *file):
        if name in file and getattr(file[name], "ndim", 0) == 3:
            return file[name]
    raise ValueError("it holds no dataset with three axes")
