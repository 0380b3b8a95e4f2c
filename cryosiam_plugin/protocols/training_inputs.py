"""Tomograms and masks of a training: which belong together, and whether they fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import mrcfile
import numpy as np

from cryosiam_plugin.convert import label_table_of
from cryosiam_plugin.convert.whole_files import replacing

#: Of the run's folder: which files it learns from.
INPUTS_FILE = "inputs.json"
#: Voxel sizes that differ by a smaller share are the same, rounded.
VOXEL_SIZE_SHARE = 0.01
#: Denoised tomograms run from 0 to 1; so many voxels of the middle slice may lie outside.
_SHARE_OUTSIDE = 0.2
_ROUNDING = 0.05
#: Names that a message lists before it refers to the rest.
_LISTED = 5


class TrainingInputError(ValueError):
    """Tomograms and masks do not fit; the message says which, and what to do."""


@dataclass(frozen=True)
class Pair:
    """A tomogram and its mask."""

    tomogram: Any
    mask: Any


def pairs_of(tomograms: Any, masks: Any) -> tuple[list[Pair], list[str]]:
    """Match tomograms and masks by tsId.

    Parameters
    ----------
    tomograms, masks
        Scipion's sets.

    Returns
    -------
    pairs : list of Pair
        In the order of their tsIds.
    left_out : list of str
        Tomograms without a mask.

    Raises
    ------
    TrainingInputError
        When nothing belongs together, or sizes or names of classes differ.
    """
    of_tomograms = {item.getTsId(): item.clone() for item in tomograms.iterItems()}
    of_masks = {item.getTsId(): item.clone() for item in masks.iterItems()}
    common = sorted(set(of_tomograms) & set(of_masks))
    if not common:
        raise TrainingInputError(no_pairs_message(of_tomograms, of_masks))
    pairs = [Pair(of_tomograms[tsId], of_masks[tsId]) for tsId in common]
    _check_sizes(pairs)
    _check_names(pairs)
    return pairs, sorted(set(of_tomograms) - set(of_masks))


def no_pairs_message(tomograms: Sequence[str] | Mapping[str, Any], masks: Any) -> str:
    """What to say when no mask belongs to any tomogram."""
    return (
        "No mask belongs to any of the tomograms: they belong together by their tilt-series "
        f"identifier (tsId). Tomograms: {listed(sorted(tomograms))}. Masks: "
        f"{listed(sorted(masks))}."
    )


def listed(names: Sequence[str]) -> str:
    """Names for a message; not more than fit into it."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def files_of_pairs(pairs: Sequence[Pair]) -> dict[str, dict[str, str]]:
    """Files of the tomograms and of their masks, by tsId, as the project names them."""
    return {
        "tomograms": {pair.tomogram.getTsId(): pair.tomogram.getFileName() for pair in pairs},
        "masks": {pair.mask.getTsId(): pair.mask.getFileName() for pair in pairs},
    }


def note_inputs(note: Path, pairs: Sequence[Pair], *, has_begun: bool) -> None:
    """Note which files a training learns from; refuse to go on with others.

    Parameters
    ----------
    note
        The file with what was noted before, if there is one: a training of an earlier version has
        none, and then only the engine compares what the files hold.
    pairs
        What it learns from now.
    has_begun
        Whether it has learned something already.

    Raises
    ------
    TrainingInputError
        Saying which input was changed since it began.
    """
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if has_begun and isinstance(before, dict):
        _check_unchanged(before, pairs)
    with replacing(note) as partial:
        partial.write_text(json.dumps(files_of_pairs(pairs), indent=1), encoding="utf-8")


def _check_unchanged(before: Mapping[str, Any], pairs: Sequence[Pair]) -> None:
    for kind, files in files_of_pairs(pairs).items():
        noted = before.get(kind)
        if not isinstance(noted, dict) or noted == files:
            continue
        tsIds = sorted({*noted, *files})
        changed = [tsId for tsId in tsIds if noted.get(tsId) != files.get(tsId)]
        raise TrainingInputError(
            f"The {kind} are others than those that the training began with: {listed(changed)}. "
            f"For example {changed[0]}: now {files.get(changed[0], 'none')}, before "
            f"{noted.get(changed[0], 'none')}. Give the {kind} of then and Continue, or use "
            "Restart to train anew on these."
        )


def _check_sizes(pairs: Sequence[Pair]) -> None:
    wrong = []
    for pair in pairs:
        size, own = pair.tomogram.getDim(), pair.mask.getDim()
        if tuple(size) != tuple(own):
            wrong.append(
                f"{pair.tomogram.getTsId()}: the tomogram has {_written(size)} voxels, its mask "
                f"{_written(own)}"
            )
    if wrong:
        raise TrainingInputError(
            f"Masks must be as large as their tomograms. {'; '.join(wrong[:_LISTED])}. Give masks "
            "that were made from these tomograms: same binning, same crop."
        )


def _written(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _check_names(pairs: Sequence[Pair]) -> None:
    """Refuse masks in which the same number means different things."""
    known: dict[int, tuple[str, str]] = {}
    for pair in pairs:
        tsId = pair.mask.getTsId()
        for label, name in label_table_of(pair.mask).items():
            other, owner = known.setdefault(label, (name, tsId))
            if name != other:
                raise TrainingInputError(
                    f"Class {label} is called {other} in the mask of {owner}, but {name} in that "
                    f"of {tsId}. Give masks that were made in one run."
                )


def check_grey_values(path: str, tsId: str) -> None:
    """Refuse a tomogram that is not scaled as denoised ones are.

    Everything outside 0 to 1 is cut off before the network sees it, in training and afterwards.

    Parameters
    ----------
    path
        An MRC file, of which the middle slice is read.
    tsId
        Whose it is.

    Raises
    ------
    TrainingInputError
        When much of it lies outside 0 to 1.
    """
    try:
        with mrcfile.mmap(Path(path).resolve(), mode="r", permissive=True) as mrc:
            middle = np.asarray(mrc.data[mrc.data.shape[0] // 2], dtype=np.float32)
    except (OSError, ValueError):
        return  # compressed, or damaged: the engine looks at it next
    outside = float(np.mean((middle < -_ROUNDING) | (middle > 1 + _ROUNDING)))
    if outside > _SHARE_OUTSIDE:
        raise TrainingInputError(
            f"The grey values of {tsId} run from {middle.min():.3g} to {middle.max():.3g}, but "
            "the networks see only what lies between 0 and 1. Give the output of CryoSiam's "
            "_denoise tomograms_ (with _Scale to 0 - 1_), on which the model will be used."
        )
