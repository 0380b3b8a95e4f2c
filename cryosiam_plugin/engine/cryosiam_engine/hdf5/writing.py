"""Making CryoSiam's HDF5 files: plain datasets in the root, contiguous, uncompressed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from numpy.typing import DTypeLike

from cryosiam_engine.files import atomic_path
from cryosiam_engine.hdf5.sink import DiskSink


class StreamedDatasets:
    """A new HDF5 file that is filled block by block, and is either whole or absent.

    Use it in a ``with`` statement. The file gets its name when the block ends well; after an
    exception nothing is left. Voxels that were never written are 0.

    Parameters
    ----------
    path
        The file; missing folders are made.
    datasets
        For each name the shape and the type.

    Raises
    ------
    OutputError
        On entering, writing or leaving, when the system refuses to write.

    Examples
    --------
    >>> with StreamedDatasets(path, {"probs": ((5, *shape), "f4")}) as file:  # doctest: +SKIP
    ...     file.write("probs", (slice(0, 5), slice(0, 16)), block)
    """

    def __init__(
        self, path: str | Path, datasets: Mapping[str, tuple[tuple[int, ...], DTypeLike]]
    ) -> None:
        self._path = Path(path)
        self._datasets = datasets

    def __enter__(self) -> StreamedDatasets:
        with ExitStack() as stack:
            self._file, self._sink = stack.enter_context(new_file(self._path))
            for name, (shape, dtype) in self._datasets.items():
                self._file.create_dataset(name, shape=shape, dtype=dtype)
            self._sink.check()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, name: str, region: tuple[slice, ...], block: np.ndarray) -> None:
        """Write `block` to the voxels `region` of the dataset `name`."""
        self._file[name][region] = block
        # A full disk is told at once, not after hours of prediction.
        self._sink.check()


def write_datasets(path: str | Path, datasets: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a new HDF5 file, which is either whole or absent.

    Parameters
    ----------
    path
        The file; missing folders are made, an existing file is replaced.
    datasets
        Arrays by name, of any shape.

    Raises
    ------
    OutputError
        When the system refuses to write: no space, no permission.
    """
    with new_file(Path(path)) as (file, sink):
        for name, array in datasets.items():
            file.create_dataset(name, data=array)
            sink.check()


@contextmanager
def new_file(path: Path) -> Iterator[tuple[h5py.File, DiskSink]]:
    """Make a new file, atomically, without HDF5 ever meeting an error of the disk."""
    with atomic_path(path) as partial, DiskSink(partial) as sink:
        try:
            with h5py.File(sink, "w") as file:
                yield file, sink
        except Exception:
            sink.check()
            raise
        sink.finish()
