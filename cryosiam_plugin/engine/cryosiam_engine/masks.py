"""The mask of a tomogram: read, brought to the tomogram's shape, checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage.transform import resize

from cryosiam_engine.errors import MaskError
from cryosiam_engine.label_files import find_label_files, read_labels


def load_mask(
    folder: str | Path,
    stem: str,
    shape: tuple[int, int, int],
    *,
    extension: str,
    binary: bool,
) -> tuple[np.ndarray, list[str]]:
    """Read the mask of one tomogram.

    Parameters
    ----------
    folder
        The mask folder: the prediction folder of an earlier run, or one with MRC masks.
    stem
        Name of the tomogram without extension.
    shape
        Shape of the tomogram, `(z, y, x)`. A mask of another shape is resized as the original
        does it: linearly, with zeros outside, and truncated, so that it loses a rim.
    extension
        Extension of MRC masks, with the dot.
    binary
        Whether the mask only says inside or outside: every value above 0 counts as 1.
        Otherwise the values are kept and will multiply what is masked, as in the original.

    Returns
    -------
    mask : np.ndarray
        The mask, int8 `(z, y, x)`.
    warnings : list[str]
        What the user should know about it.

    Raises
    ------
    MaskError
        When there is no mask for this tomogram, it is not a volume, or nothing is inside it.
    """
    path = find_label_files(Path(folder), stem, extension)[0]
    values = read_labels(path)
    if values.ndim != 3:
        raise MaskError(
            f"The mask {path} has {values.ndim} dimensions instead of 3.",
            remedy="Give a mask volume of the tomogram's size, or leave mask_folder empty.",
        )
    warnings = _warn_about_values(values, path, binary)
    # Instance masks have large numbers: binarised before they meet int8 or the interpolation.
    mask = (values > 0 if binary else values).astype(np.int8, copy=False)
    if mask.shape != tuple(shape):
        warnings.append(
            f"The mask {path} has the shape {_text(mask.shape)} (z, y, x) but the tomogram "
            f"{_text(shape)}: the mask was resized and lost a rim of a few voxels."
        )
        mask = resize(mask, shape, mode="constant", preserve_range=True).astype(np.int8)
    if not mask.any():
        raise MaskError(
            f"The mask {path} is empty: no voxel of {stem} is inside it"
            + (f" after resizing to {_text(shape)}." if values.shape != tuple(shape) else "."),
            remedy="Make the mask again (a lower threshold finds more) in the tomogram's size, "
            "or leave mask_folder empty to work without a mask.",
        )
    return mask, warnings


def _warn_about_values(values: np.ndarray, path: Path, binary: bool) -> list[str]:
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1:
        return []
    use = (
        "every value above 0 counts as inside"
        if binary
        else "labels and probabilities are multiplied by them (as 8-bit numbers), as the "
        "original does"
    )
    return [f"The mask {path} has values from {low} to {high} instead of 0 and 1: {use}."]


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
