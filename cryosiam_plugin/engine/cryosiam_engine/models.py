"""The published models: what each is for, and whether it is on this machine."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from cryosiam_engine.errors import ConfigurationError

Task = Literal["denoising", "lamella", "semantic", "instance", "backbone", "embedding"]


@dataclass(frozen=True)
class PublishedModel:
    """A model that the authors of CryoSiam publish.

    Parameters
    ----------
    name
        Short name, unique.
    file
        File name in the repository, and of the downloaded file.
    task
        What the network was trained for.
    repository
        Repository on Hugging Face.
    description
        What the model is for, in one line.
    masking_type
        For embeddings: how the particle's surroundings were masked in training (0 not at all,
        1 outside its convex hull, 2 outside its own voxels); ``masking_type`` must be the same.
    recommended
        Documented settings, laid out as in a configuration.
    classes
        Names of label values, as far as they are documented.
    sha256
        Of the file, 64 hexadecimal digits; None while no download has been verified.
    """

    name: str
    file: str
    task: Task
    repository: str
    description: str
    masking_type: int | None = None
    recommended: dict[str, Any] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    sha256: str | None = None

    @property
    def url(self) -> str:
        """Where the file can be downloaded."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.file}"


@cache
def _registry() -> tuple[PublishedModel, ...]:
    text = resources.files("cryosiam_engine").joinpath("models.yaml").read_text(encoding="utf-8")
    return tuple(PublishedModel(**entry) for entry in yaml.safe_load(text))


def published_models() -> list[PublishedModel]:
    """List the published models in the order in which a project uses them."""
    return list(_registry())


def find_model(name_or_file: str | Path) -> PublishedModel:
    """Find a published model by its name or by the name of its file.

    Parameters
    ----------
    name_or_file
        ``"lamella"``, ``"cryosiam_lamella.ckpt"``, with or without the extension, or the path of
        such a file.

    Raises
    ------
    ConfigurationError
        When no published model is called so.
    """
    wanted = Path(name_or_file).name.lower()
    by_name = {
        name: model
        for model in _registry()
        for name in (model.name, model.file, Path(model.file).stem)
    }
    if wanted in by_name:
        return by_name[wanted]
    similar = difflib.get_close_matches(wanted, by_name, n=1)
    names = ", ".join(model.name for model in _registry())
    raise ConfigurationError(
        f"No published model is called {name_or_file}.",
        remedy=f"Did you mean {similar[0]}?" if similar else f"Published models: {names}.",
    )


def models_folder(folder: str | Path | None = None) -> Path | None:
    """Say in which folder models are kept: `folder`, else ``$CRYOSIAM_MODELS``, else None.

    Parameters
    ----------
    folder
        What the user asked for, if anything.
    """
    chosen = str(folder or os.environ.get("CRYOSIAM_MODELS", ""))
    return Path(chosen).expanduser() if chosen else None


def format_table(models: Sequence[PublishedModel], folder: Path | None) -> str:
    """Lay the models out as a table for the terminal.

    Parameters
    ----------
    models
        The rows.
    folder
        Where models are kept; None leaves out the column that says which are there.
    """
    rows = [["name", "task", "file", "here", "what for"]]
    rows += [
        [m.name, m.task, m.file, "yes" if _is_in(folder, m) else "no", m.description]
        for m in models
    ]
    if folder is None:
        rows = [[*row[:3], *row[4:]] for row in rows]
        footer = "Set CRYOSIAM_MODELS or give --folder to see which of them you have."
    else:
        footer = f"here: present in {folder}"
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(c.ljust(w) for c, w in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in rows
    ]
    return "\n".join([*lines, "", footer])


def to_json(models: Sequence[PublishedModel], folder: Path | None) -> str:
    """Give the models as JSON: all their attributes, their addresses, and where they lie.

    Parameters
    ----------
    models
        The models.
    folder
        Where models are kept. ``path`` is null for a model that is not there.
    """
    entries = [
        {
            **asdict(model),
            "url": model.url,
            "path": str(folder / model.file) if folder and _is_in(folder, model) else None,
        }
        for model in models
    ]
    return json.dumps(entries, indent=2)


def run(args: argparse.Namespace) -> int:
    """Print the published models: ``cryosiam-engine models list``.

    Parameters
    ----------
    args
        ``folder`` (or None) and ``json``.

    Returns
    -------
    int
        The exit code, 0.
    """
    show = to_json if args.json else format_table
    sys.stdout.write(show(published_models(), models_folder(args.folder)) + "\n")
    return 0


def _is_in(folder: Path | None, model: PublishedModel) -> bool:
    return folder is not None and (folder / model.file).is_file()
