"""Where the instances of a tomogram lie, reading them, and writing them as HDF5 and MRC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cryosiam_engine.errors import MaskError
from cryosiam_engine.hdf5 import StreamedDatasets, read_dataset
from cryosiam_engine.label_files import read_labels
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.status import FileIdentity, Output
from cryosiam_engine.volume import VolumeHeader, write_mrc_like

#: The dataset of the HDF5 file.
DATASET = "instances"

#: MRC has no larger integers than these; float32 is exact up to the second number.
MAX_ID_UINT16, MAX_ID_FLOAT32 = 2**16 - 1, 2**24


def instance_file(folder: Path, stem: str, suffix: str) -> Path:
    """The instances of a tomogram as HDF5 (`suffix` ``.h5``) or MRC (``.mrc``)."""
    return folder / f"{stem}_instance_preds{suffix}"


def find_instance_files(folder: str | Path, stem: str) -> list[Path]:
    """Every file that holds the instances of a tomogram, the one to read first.

    Parameters
    ----------
    folder
        A prediction folder of instance_predict or of instance_filter.
    stem
        The tomogram's name without suffix.

    Raises
    ------
    MaskError
        When there is none; the names looked for are listed.
    """
    paths = [instance_file(Path(folder), stem, suffix) for suffix in (".h5", ".mrc")]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise MaskError(
            f"No instances of {stem} in {folder}; looked for "
            f"{', '.join(path.name for path in paths)}.",
            remedy="Run instance_predict first, and give its prediction_folder.",
        )
    return found


def read_instances(path: Path) -> NDArray[np.integer]:
    """Read instances `(z, y, x)` from an HDF5 (dataset ``instances``) or MRC file.

    Parameters
    ----------
    path
        One of :func:`find_instance_files`.

    Returns
    -------
    numpy.ndarray
        Instance ids in the file's integer type (the smallest fitting one where an MRC holds them
        as floating-point numbers), 0 = background.

    Raises
    ------
    MaskError
        When the file cannot be read, or holds no instance ids.
    """
    instances = read_dataset(path, DATASET) if path.suffix == ".h5" else read_labels(path)
    if instances.ndim != 3 or instances.size == 0 or instances.dtype.kind not in "iu":
        raise MaskError(
            f"{path} holds {instances.dtype} values of shape {instances.shape}: these are no "
            "instance ids of a tomogram.",
            remedy="Give the folder with the results of instance_predict.",
        )
    low, high = int(instances.min()), int(instances.max())
    if low < 0 or high > instances.size:
        raise MaskError(
            f"{path} has ids from {low} to {high}: instances are numbered from 1, and there are "
            f"only {instances.size} voxels.",
            remedy="Number the instances from 1 on, or make them with instance_predict.",
        )
    return instances


class InstanceFiles:
    """Writes the instances of one tomogram in the formats asked for.

    A file of the other format that an earlier run left is removed: it would be read instead.

    Parameters
    ----------
    folder
        Where the files go.
    stem
        The tomogram's stem.
    header
        Geometry of the tomogram; only an MRC file needs it.
    output_format
        ``h5``, ``mrc`` or ``both``.
    """

    def __init__(
        self, folder: Path, stem: str, header: VolumeHeader | None, output_format: str
    ) -> None:
        self._hdf5 = instance_file(folder, stem, ".h5")
        self._mrc = instance_file(folder, stem, ".mrc")
        self._header = header
        self._format = output_format

    def write(
        self, instances: NDArray[np.integer], dtype: DTypeLike | None = None
    ) -> tuple[list[Output], list[str]]:
        """Write instance ids `(z, y, x)`.

        MRC holds up to 65,535 ids as uint16 and up to 16,777,216 as float32, exactly; with more,
        HDF5 is written instead.

        Parameters
        ----------
        instances
            Unsigned ids, 0 = background.
        dtype
            Type in the HDF5 file; None for that of `instances`.

        Returns
        -------
        outputs : list of Output
            What was written, kind ``instances``.
        warnings : list of str
            What the user should know about it.
        """
        n_ids = int(instances.max())
        wants_mrc = self._format != "h5" and n_ids <= MAX_ID_FLOAT32
        warnings = []
        if self._format != "h5" and not wants_mrc:
            warnings.append(
                f"NO MRC WRITTEN: instance ids go up to {n_ids}, and MRC holds whole numbers up "
                f"to {MAX_ID_FLOAT32} exactly. The instances are in {self._hdf5.name}."
            )
        paths = []
        if self._format != "mrc" or not wants_mrc:
            self._write_hdf5(instances, np.dtype(dtype or instances.dtype))
            paths.append(self._hdf5)
        if wants_mrc:
            self._write_mrc(instances, n_ids)
            paths.append(self._mrc)
        for stale in {self._hdf5, self._mrc} - set(paths):
            stale.unlink(missing_ok=True)
        voxel_size = self._header.voxel_size if self._header else None
        return [
            Output(FileIdentity.of(path), "instances", instances.shape, voxel_size)
            for path in paths
        ], warnings

    def _write_hdf5(self, instances: NDArray[np.integer], dtype: np.dtype) -> None:
        with StreamedDatasets(self._hdf5, {DATASET: (instances.shape, dtype)}) as file:
            for part in slabs(instances.shape):
                file.write(DATASET, (part,), instances[part])

    def _write_mrc(self, instances: NDArray[np.integer], n_ids: int) -> None:
        if self._header is None:
            raise ValueError("an MRC file needs the geometry of its tomogram")
        dtype = np.uint16 if n_ids <= MAX_ID_UINT16 else np.float32
        write_mrc_like(self._mrc, instances.astype(dtype, copy=False), self._header)
