"""The checkpoints in a folder, and what is known about each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

from cryosiam_plugin.protocols.checkpoint_summary import (
    CheckpointSummaryError,
    summarise_checkpoint,
)
from cryosiam_plugin.published_models import PublishedModel


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint.

    Attributes
    ----------
    path
        The file.
    task
        What it was trained for.
    about
        What it is for, where it is a published one.
    megabytes
        Its size.
    """

    path: Path
    task: str
    about: str
    megabytes: int


def model_files(
    folder: Path, published: Iterable[PublishedModel], tasks: Sequence[str] = ()
) -> list[ModelFile]:
    """The checkpoints (.ckpt) of a folder, by name.

    Parameters
    ----------
    folder
        It need not exist.
    published
        The published models, recognised by their files' names.
    tasks
        Models for other tasks are left out; empty: none is.
    """
    known = {model.file: model for model in published}
    found = []
    for path in sorted(folder.glob("*.ckpt")) if folder.is_dir() else []:
        model = known.get(path.name)
        task = model.task if model is not None else _task(path)
        # A lamella model is a semantic one of one class: its file does not tell them apart.
        fits = {task, "lamella"} if task == "semantic" and model is None else {task}
        if not tasks or fits & set(tasks):
            about = model.description if model is not None else ""
            found.append(ModelFile(path, task, about, round(path.stat().st_size / 1e6)))
    return found


def _task(path: Path) -> str:
    try:
        return summarise_checkpoint(str(path)).task
    except (CheckpointSummaryError, OSError):
        return "unknown"
