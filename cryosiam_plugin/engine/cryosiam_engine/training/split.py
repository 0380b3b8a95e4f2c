"""Which tomograms are learned from and which only judge: drawn once, kept as JSON."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.embeddings.patches import Box
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import write_text
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.training.patch_grid import place_of
from cryosiam_engine.training.volumes import IMAGE, TrainingVolume

logger = logging.getLogger(__name__)

SPLIT_FILE = "train_val_split.json"


@dataclass(frozen=True)
class Split:
    """Names of the files for training and for validation.

    `shared` is the one tomogram that serves both where there is no second: its last part along
    the longest axis is for validation, with that share of the labelled voxels.
    """

    training: list[str]
    validation: list[str]
    shared: list[str] = field(default_factory=list)


def choose_split(
    names: Sequence[str], validation_names: Sequence[str] | None, ratio: float, seed: int
) -> Split:
    """Divide tomograms into those for training and those for validation.

    Parameters
    ----------
    names
        All files, or those for training where `validation_names` are given.
    validation_names
        The user's own choice.
    ratio
        Part of the tomograms that is for validation otherwise (rounded up).
    seed
        The same seed divides the same list in the same way.

    Raises
    ------
    ConfigurationError
        When a tomogram is in both lists, or nothing is left for training.
    """
    names = sorted(dict.fromkeys(names))
    if validation_names:
        both = sorted(set(names) & set(validation_names))
        if both:
            raise ConfigurationError(
                f"In train_files and in val_files at the same time: {', '.join(both)}.",
                remedy="Remove it from one of them: a network must be judged by what it has not "
                "learned from.",
            )
        return Split(names, sorted(validation_names))
    if len(names) == 1:
        return Split([], [], names)
    n_validation = min(math.ceil(len(names) * ratio), len(names) - 1)
    order = np.random.default_rng(seed).permutation(len(names))
    shuffled = [names[index] for index in order]
    return Split(sorted(shuffled[:-n_validation]), sorted(shuffled[-n_validation:]))


def kept_split(folder: Path, fresh: Split) -> Split:
    """The division of an earlier run of this training; `fresh`, written down, where there is none.

    Parameters
    ----------
    folder
        ``log_dir``.
    fresh
        Of :func:`choose_split`.

    Raises
    ------
    ConfigurationError
        When the tomograms are not those of the earlier run.
    """
    try:
        values = json.loads((folder / SPLIT_FILE).read_text(encoding="utf-8"))
        kept = Split(values["training"], values["validation"], values["shared"])
    except FileNotFoundError:
        write_split(folder, fresh)
        return fresh
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{folder / SPLIT_FILE} is damaged: {error}.",
            remedy="Set continue_training to False to begin anew.",
        ) from error
    if _all(kept) != _all(fresh):
        raise ConfigurationError(
            f"The training in {folder} was begun with other tomograms than those given now.",
            remedy="Give the same tomograms, or set continue_training to False and another "
            "log_dir to train on these.",
        )
    return kept


def write_split(folder: Path, split: Split) -> None:
    """Write ``train_val_split.json``."""
    write_text(folder / SPLIT_FILE, json.dumps(asdict(split), indent=1) + "\n")


def divide(region: Box, ratio: float, labels: NDArray[Any] | None = None) -> tuple[Box, Box]:
    """Divide one tomogram: the first part along its longest axis, and the rest for validation.

    Parameters
    ----------
    region
        What may be used of the tomogram.
    ratio
        Part for validation: of the labelled voxels where there are some, else of the length. A
        tomogram often ends with voxels that show nothing, which could judge no network.
    labels
        `(z, y, x)`, of the whole tomogram; 0 is background.
    """
    lengths = region.shape
    axis = lengths.index(max(lengths))
    n_validation = by_length = math.ceil(lengths[axis] * ratio)
    if labels is not None:
        labelled = _labelled_sections(labels[region.slices], axis)
        if labelled.any():
            # Sections from the end until they hold enough, but no more than half of all.
            from_end = np.cumsum(labelled[::-1])
            n_validation = int(np.searchsorted(from_end, ratio * from_end[-1])) + 1
            n_validation = min(n_validation, max(lengths[axis] // 2, by_length))
    border = region.stop[axis] - min(max(1, n_validation), lengths[axis] - 1)
    stop, start = list(region.stop), list(region.start)
    stop[axis] = start[axis] = border
    return (
        Box(region.start, (stop[0], stop[1], stop[2])),
        Box((start[0], start[1], start[2]), region.stop),
    )


def divide_patches(
    patches: Sequence[TrainingVolume], ratio: float
) -> tuple[list[TrainingVolume], list[TrainingVolume]]:
    """Divide the patches of one tomogram: those at its end are for validation.

    Patches that share voxels with them are left out: a network must be judged by what it has not
    learned from.

    Parameters
    ----------
    patches
        Of a patch folder.
    ratio
        Part of them for validation, or a little more: they are divided across the longest axis.

    Raises
    ------
    ConfigurationError
        When all of them share voxels.
    """
    starts = np.array([place_of(one.files[IMAGE]) for one in patches])
    stops = starts + np.array([one.region.shape for one in patches])
    for axis in np.argsort(starts.min(axis=0) - stops.max(axis=0), kind="stable"):
        first, last = starts[:, axis], stops[:, axis]
        borders = [edge for edge in np.unique(first) if (first >= edge).mean() >= ratio]
        for_training, for_validation = last <= borders[-1], first >= borders[-1]
        if for_training.any():
            learned = [one for one, yes in zip(patches, for_training, strict=True) if yes]
            judged = [one for one, yes in zip(patches, for_validation, strict=True) if yes]
            logger.info(
                "One tomogram only: %d patches to learn from, %d at its end to validate with; %d "
                "between them, which share voxels with both, are left out.",
                len(learned),
                len(judged),
                len(patches) - len(learned) - len(judged),
            )
            return learned, judged
    raise ConfigurationError(
        f"The {len(patches)} patches of {patches[0].stem} cannot be divided into some to learn "
        "from and some to judge by: they share voxels.",
        remedy="Give a second tomogram for validation; or cut smaller patches, or set "
        "patch_source to tomograms.",
    )


def _labelled_sections(labels: NDArray[Any], axis: int) -> NDArray[np.int64]:
    """Labelled voxels in every section across an axis; slab by slab, the file stays on the disk."""
    across = tuple(other for other in range(3) if other != axis)
    counts = [np.count_nonzero(labels[part], axis=across) for part in slabs(labels.shape)]
    if axis == 0:
        return np.concatenate(counts)
    total: NDArray[np.int64] = np.sum(counts, axis=0)
    return total


def _all(split: Split) -> list[str]:
    return sorted([*split.training, *split.validation, *split.shared])
