"""CryoSiam's HDF5 files: root datasets, contiguous and uncompressed, without attributes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from cryosiam_engine.errors import MaskError
from cryosiam_engine.hdf5.writing import new_file


def update_dataset(path: str | Path, name: str, array: np.ndarray) -> None:
    """Replace (or add) one dataset of an existing HDF5 file; the others are kept.

    The file is written anew and then renamed, so that a reader never sees half of it, and no
    space stays lost in it.

    Parameters
    ----------
    path
        The file.
    name
        The dataset.
    array
        Its new content; shape and type may differ from the old.

    Raises
    ------
    MaskError
        When the file is missing or unreadable.
    OutputError
        When the system refuses to write.
    """
    with _open(Path(path)) as old, new_file(Path(path)) as (new, sink):
        for kept in old:
            if kept != name:
                old.copy(kept, new)
                sink.check()
        new.create_dataset(name, data=array)
        sink.check()


def read_dataset(path: str | Path, name: str) -> np.ndarray:
    """Read one dataset of an HDF5 file.

    Parameters
    ----------
    path
        The file.
    name
        The dataset, for instance ``labels`` or ``instances``.

    Returns
    -------
    numpy.ndarray
        In the file's shape and type.

    Raises
    ------
    MaskError
        When the file is missing, is no HDF5 file, is damaged, or has no such dataset.
    """
    path = Path(path)
    with _open(path) as file:
        if not isinstance(file.get(name), h5py.Dataset):
            present = ", ".join(sorted(file)) or "nothing"
            raise MaskError(
                f"{path} has no dataset '{name}'; it has: {present}.",
                remedy="Give the folder that holds the results of the right module.",
            )
        try:
            return np.asarray(file[name][()])
        except OSError as error:
            raise _damaged(path, error) from error


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading, if it is one that HDF5 understands."""
    if not path.is_file():
        raise MaskError(
            f"{path} does not exist." if not path.is_dir() else f"{path} is a folder.",
            remedy="Check the folder in the configuration, and that the module that writes this "
            "file has been run.",
        )
    if not os.access(path, os.R_OK):
        raise MaskError(f"No permission to read {path}.", remedy="Change its permissions.")
    try:
        # Files are complete once they have their name, so no lock is needed; many cluster file
        # systems have none.
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise _damaged(path, error) from error
    with file:
        yield file


def _damaged(path: Path, error: OSError) -> MaskError:
    return MaskError(
        f"{path} is not an HDF5 file, or is damaged: {error}.",
        remedy="Copy it again, or run the module that writes it again.",
    )
