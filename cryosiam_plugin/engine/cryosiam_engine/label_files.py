"""Where the labels of a tomogram lie in a folder, and reading them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryosiam_engine.errors import ConfigurationError, MaskError, TomogramError
from cryosiam_engine.hdf5 import read_dataset
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.volume import read_volume

#: Labels are unsigned 16-bit numbers at most.
MAX_CLASSES = 2**16


def label_dtype(n_classes: int) -> np.dtype:
    """The smallest type for labels 0, 1, ... of so many classes (background included).

    Raises
    ------
    ConfigurationError
        With more than 65536 classes.
    """
    if n_classes > MAX_CLASSES:
        raise ConfigurationError(
            f"A network with {n_classes} output channels cannot be stored as labels.",
            remedy=f"Use at most {MAX_CLASSES} classes.",
        )
    return np.dtype(np.uint8 if n_classes <= 2**8 else np.uint16)


def find_label_files(folder: Path, stem: str, extension: str) -> list[Path]:
    """Every file that holds the labels or the mask of a tomogram, the one to read first.

    They are ``<stem>_preds.h5`` (dataset ``labels``), ``<stem>_preds.mrc``,
    ``<stem><extension>``, ``<stem>.mrc`` and ``<stem>.rec``.

    Parameters
    ----------
    folder
        A prediction folder of semantic_predict, or any folder of masks.
    stem
        The tomogram's name without suffix.
    extension
        ``file_extension`` of the configuration.

    Raises
    ------
    MaskError
        When there is none; the names looked for are listed.
    """
    names = [f"{stem}_preds.h5", f"{stem}_preds.mrc"]
    names += [f"{stem}{suffix}" for suffix in dict.fromkeys((extension, ".mrc", ".rec"))]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise MaskError(
            f"No labels or mask of {stem} in {folder}; looked for {', '.join(names)}.",
            remedy="Give the folder that holds those of these tomograms, under their names; a "
            "prediction must have been run first.",
        )
    return found


def read_labels(path: Path) -> np.ndarray:
    """Read labels `(z, y, x)` from an HDF5 (dataset ``labels``) or MRC file.

    Parameters
    ----------
    path
        One of :func:`find_label_files`.

    Returns
    -------
    numpy.ndarray
        Whole numbers in the file's type; the smallest fitting one where the file holds them as
        floating-point numbers.

    Raises
    ------
    MaskError
        When the file cannot be read, or holds fractions.
    """
    if path.suffix == ".h5":
        labels = read_dataset(path, "labels")
    else:
        try:
            labels = read_volume(path).data
        except TomogramError as error:
            raise MaskError(error.message, remedy=error.remedy) from error
    return _whole_numbers(labels, path) if labels.dtype.kind == "f" else labels


def _whole_numbers(labels: np.ndarray, path: Path) -> np.ndarray:
    """Labels stored as floating-point numbers, as other programs do, in an integer type."""
    fractions = sum(
        int(np.count_nonzero(labels[part] != np.rint(labels[part]))) for part in slabs(labels.shape)
    )
    low, high = float(labels.min()), float(labels.max())
    if fractions or not np.isfinite([low, high]).all():
        raise MaskError(
            f"{path} is no label volume: it holds {fractions} fractional or NaN values, from "
            f"{low:g} to {high:g}.",
            remedy="Threshold the mask to 0 and 1, or give the labels instead of a probability "
            "map.",
        )
    dtype = np.result_type(np.min_scalar_type(int(low)), np.min_scalar_type(int(high)))
    return labels.astype(dtype)
