"""The models in a folder, those that come with the plugin, and what is known about each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Sequence

from cryosiam_plugin.protocols.checkpoint_summary import (
    MODEL_SUFFIXES,
    CheckpointSummaryError,
    summarise_checkpoint,
)
from cryosiam_plugin.published_models import BuiltInModel, PublishedModel


@dataclass(frozen=True)
class ModelFile:
    """A model.

    Attributes
    ----------
    path
        The file.
    task
        What it was trained for.
    about
        What it is for, where it is a published or a built-in one.
    megabytes
        Its size.
    """

    path: Path
    task: str
    about: str
    megabytes: int


def model_files(
    folder: Path,
    published: Iterable[PublishedModel],
    tasks: Sequence[str] = (),
    built_in: Iterable[BuiltInModel] = (),
) -> list[ModelFile]:
    """The models of a folder, by name, and then the built-in ones.

    Parameters
    ----------
    folder
        It need not exist.
    published
        The published models, recognised by their files' names.
    tasks
        Models for other tasks are left out; empty: none is.
    built_in
        The models that come with the plugin.
    """
    known = {model.file: model for model in published}
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        # What begins with a dot has not arrived completely.
        if path.suffix not in MODEL_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        model = known.get(path.name)
        task = model.task if model is not None else _task(path)
        # A lamella model is a semantic one of one class: its file does not tell them apart.
        fits = {task, "lamella"} if task == "semantic" and model is None else {task}
        if not tasks or fits & set(tasks):
            found.append(_described(path, task, model.description if model is not None else ""))
    return found + [
        _described(model.location, model.task, model.description)
        for model in built_in
        if model.location.is_file() and (not tasks or model.task in tasks)
    ]


def _described(path: Path, task: str, about: str) -> ModelFile:
    return ModelFile(path, task, about, round(path.stat().st_size / 1e6))


def _task(path: Path) -> str:
    try:
        return summarise_checkpoint(str(path)).task
    except (CheckpointSummaryError, OSError):
        return "unknown"
