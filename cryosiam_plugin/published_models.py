"""The published and the built-in models, read from the engine's lists without importing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

_ENGINE = Path(__file__).parent / "engine" / "cryosiam_engine"
#: The engine's lists, where the engine's source is bundled.
MODELS_FILE = _ENGINE / "models.yaml"
BUILT_IN_FILE = _ENGINE / "built_in_models.yaml"
#: The files of the built-in models.
BUILT_IN_FOLDER = _ENGINE / "demo_models"


@dataclass(frozen=True)
class PublishedModel:
    """A model that the authors of CryoSiam publish.

    Attributes
    ----------
    name
        Short name, unique.
    file
        Name of the checkpoint's file, in the repository and in the folder of models.
    task
        ``denoising``, ``lamella``, ``semantic``, ``instance``, ``backbone`` or ``embedding``.
    repository
        Repository on Hugging Face.
    revision
        Version of the repository: a branch, a tag or a commit.
    description
        What it is for, in one line.
    recommended
        Documented settings, laid out as in an engine configuration.
    classes
        Names of label values, as far as they are documented.
    sha256
        Of the file; None while it is not known.
    masking_type
        Of a model for embeddings: what it saw of a particle, as the configuration's key says it.
    """

    name: str
    file: str
    task: str
    repository: str
    description: str
    recommended: dict[str, Any] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    sha256: str | None = None
    masking_type: int | None = None
    revision: str = "main"

    @property
    def url(self) -> str:
        """Where the file can be downloaded."""
        return f"https://huggingface.co/{self.repository}/resolve/{self.revision}/{self.file}"

    def path(self, folder: str) -> Path:
        """Where the file lies in a folder of models."""
        return Path(folder) / self.file


@dataclass(frozen=True)
class BuiltInModel:
    """A small model that comes with the engine, trained on simulated tomograms, for trying out.

    Attributes
    ----------
    name
        Begins with ``demo-``.
    file
        Name of its file in :data:`BUILT_IN_FOLDER`.
    task
        As of a published model.
    description
        What it is for, in one line.
    voxel_size
        Å; of the simulated tomograms.
    classes
        Names of label values.
    masking_type
        As of a published model.
    recommended
        What a configuration must say for it, laid out as there.
    """

    name: str
    file: str
    task: str
    description: str
    voxel_size: float
    classes: dict[int, str] = field(default_factory=dict)
    masking_type: int | None = None
    recommended: dict[str, Any] = field(default_factory=dict)

    @property
    def location(self) -> Path:
        """Where the file lies."""
        return BUILT_IN_FOLDER / self.file


@lru_cache(maxsize=None)
def read_published_models(file: Path = MODELS_FILE) -> tuple[PublishedModel, ...]:
    """Read the list of published models, in the order in which a project uses them.

    Raises
    ------
    OSError, ValueError
        When the plugin is not completely installed.
    """
    return tuple(PublishedModel(**entry) for entry in _entries(file, PublishedModel))


@lru_cache(maxsize=None)
def read_built_in_models(file: Path = BUILT_IN_FILE) -> tuple[BuiltInModel, ...]:
    """Read the list of built-in models, in the order in which a project uses them.

    Raises
    ------
    OSError, ValueError
        When the plugin is not completely installed.
    """
    return tuple(BuiltInModel(**entry) for entry in _entries(file, BuiltInModel))


def _entries(file: Path, kind: type[Any]) -> list[dict[str, Any]]:
    """What a list says; keys of a newer list than this version knows are left out."""
    known = set(kind.__dataclass_fields__)
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [{key: value for key, value in entry.items() if key in known} for entry in entries]
