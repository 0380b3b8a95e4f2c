"""The models as a table or as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryosiam_engine.errors import EngineError
from cryosiam_engine.models.built_in import BuiltInModel
from cryosiam_engine.models.record import read_records
from cryosiam_engine.models.registry import PublishedModel

Model = PublishedModel | BuiltInModel


def model_path(model: Model, folder: Path | None) -> Path | None:
    """Where a model lies; None if it is not on this machine.

    Parameters
    ----------
    model
        Published or built in.
    folder
        Where published models are kept.
    """
    if isinstance(model, BuiltInModel):
        try:
            return model.path()
        except EngineError:
            return None
    if folder is None or not (folder / model.file).is_file():
        return None
    return folder / model.file


def format_table(models: Sequence[Model], folder: Path | None, width: int | None = None) -> str:
    """Lay the models out as a table for the terminal.

    Parameters
    ----------
    models
        The rows.
    folder
        Where published models are kept; None: which of them are there is not known.
    width
        Columns of the terminal; where they do not suffice, the files' names are left out and the
        descriptions broken. None: of any width.
    """
    rows = [["name", "task", "file", "here", "what for"]]
    rows += [[m.name, m.task, m.file, _here(m, folder), m.description] for m in models]
    if folder is None:
        footer = "Set CRYOSIAM_MODELS or give --folder to see which of them you have."
    else:
        footer = f"here: present in {folder}, or built into the engine"
    lines = _laid_out(rows)
    if width is not None and max(map(len, lines)) > width:
        lines = _laid_out([[*row[:2], *row[3:]] for row in rows], width)
    return "\n".join([*lines, "", footer])


def _laid_out(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Columns as wide as they need to be; the last one broken at words where there is a width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        start = "".join(c.ljust(w + 2) for c, w in zip(row[:-1], widths, strict=True))
        broken = textwrap.wrap(row[-1], max(width - len(start), 20)) if width else [row[-1]]
        lines.append(start + broken[0])
        lines += [" " * len(start) + rest for rest in broken[1:]]
    return lines


def to_json(models: Sequence[Model], folder: Path | None) -> str:
    """Give the models as JSON: all their attributes, their addresses, and where they lie.

    Parameters
    ----------
    models
        The models.
    folder
        Where published models are kept. ``path`` is null for a model that is not there,
        ``record`` for one that was not downloaded and verified.
    """
    records = read_records(folder) if folder else {}
    return json.dumps([_entry(m, folder, records) for m in models], indent=2)


def _entry(model: Model, folder: Path | None, records: dict[str, Any]) -> dict[str, Any]:
    path = model_path(model, folder)
    record = records.get(model.file)
    return {
        **asdict(model),
        "built_in": isinstance(model, BuiltInModel),
        "url": model.url if isinstance(model, PublishedModel) else None,
        "path": str(path) if path else None,
        "record": asdict(record) if record else None,
    }


def _here(model: Model, folder: Path | None) -> str:
    there = model_path(model, folder) is not None
    if isinstance(model, BuiltInModel):
        return "built in" if there else "missing"
    return "?" if folder is None else ("yes" if there else "no")
