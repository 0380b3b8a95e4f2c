"""What the engine's dry run tells about a training before it begins."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

from cryosiam_plugin.protocols.class_lists import class_name
from cryosiam_plugin.protocols.training_inputs import listed

#: In the engine's ``log_dir``.
REPORT_FILE = "dry_run.json"

_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR)\s")
#: What the engine says about classes, which is said here with their names; those that are in none
#: of the tomograms are dealt with apart.
_RARE = re.compile(r"Class (\d+) is rare: (.*)")
_ABSENT = re.compile(r"Class \d+ is in none ")


class TrainingCheckError(ValueError):
    """The training should not begin; the message says why and what to do."""


@dataclass(frozen=True)
class Report:
    """What one batch and the labels told.

    Attributes
    ----------
    training, validation
        The tomograms to learn from and those that judge; of a single one, the same.
    hours, memory_gib
        Of the whole training.
    voxels
        Voxels of each class over all of these tomograms.
    empty
        Classes to be learned that have no voxel to learn from.
    notes
        What the user should know.
    """

    training: list[str]
    validation: list[str]
    hours: float
    memory_gib: float
    voxels: dict[int, int]
    empty: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_report(folder: Path, names: Mapping[int, str]) -> Report:
    """Read the report of a dry run.

    Parameters
    ----------
    folder
        The engine's ``log_dir``.
    names
        The classes to be learned.

    Raises
    ------
    TrainingCheckError
        When there is none.
    """
    try:
        said = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        training, validation = said["training_tomograms"], said["validation_tomograms"]
        counts = {
            tsId: {int(label): int(number) for label, number in voxels.items()}
            for tsId, voxels in said["voxels_per_class"].items()
        }
        warnings = [str(text) for text in said["warnings"]]
        hours, memory = float(said["hours"]), float(said["memory_gib"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingCheckError(
            f"The engine's report on the labels is missing: {error}"
        ) from error
    learned, judged = (_sum(counts, tsIds) for tsIds in (training, validation))
    empty = [label for label in sorted(names) if not learned.get(label)]
    notes = [_named(text, names) for text in warnings if not _ABSENT.match(text)]
    unjudged = [class_name(c, names) for c in sorted(names) if c not in empty and not judged.get(c)]
    if unjudged:
        notes.append(
            f"No tomogram for validation has any {', '.join(unjudged)}: how well the model finds "
            "that is not judged. Choose other tomograms for validation."
        )
    everything = _sum(counts, list(counts))
    return Report(training, validation, hours, memory, everything, empty, notes)


def _named(warning: str, names: Mapping[int, str]) -> str:
    rare = _RARE.match(warning)
    if rare is None:
        return warning
    return f"There is little {class_name(int(rare.group(1)), names)}: {rare.group(2)}"


def empty_message(empty: Sequence[int], names: Mapping[int, str]) -> str:
    """What to say about classes that have no voxel to learn from."""
    which = ", ".join(f"{class_name(label, names)} ({label})" for label in empty)
    return (
        f"The masks of the tomograms for training have no voxel of: {which}. What is not there "
        "cannot be learned. Give masks or *Names of the classes* without it, other tomograms for "
        "validation, or, to train nevertheless, choose *Allow classes without voxels* (expert)."
    )


def last_message(log: Path) -> str:
    """What the engine said when it gave up: the lines at the end of its log without a level."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said: list[str] = []
    for line in reversed(lines):
        if _LEVEL.match(line):
            break
        said.insert(0, line.strip())
    # A traceback is for the log; its last line tells what happened.
    if any(line.startswith("Traceback") for line in said):
        said = said[-1:]
    return " ".join(line for line in said if line)


def tomograms_line(report: Report) -> str:
    """Say which tomograms are for what."""
    if report.training == report.validation:
        return f"One tomogram ({listed(report.training)}): its last part is for validation."
    return (
        f"Tomograms for training: {listed(report.training)}; for validation: "
        f"{listed(report.validation)}."
    )


def _sum(counts: Mapping[str, Mapping[int, int]], tsIds: Sequence[str]) -> dict[int, int]:
    total: dict[int, int] = {}
    for tsId in tsIds:
        for label, number in counts.get(tsId, {}).items():
            total[label] = total.get(label, 0) + number
    return total
