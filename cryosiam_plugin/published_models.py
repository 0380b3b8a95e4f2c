"""The published models, read from the engine's own list without importing the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

#: The engine's list, where the engine's source is bundled.
MODELS_FILE = Path(__file__).parent / "engine" / "cryosiam_engine" / "models.yaml"


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

    @property
    def url(self) -> str:
        """Where the file can be downloaded."""
        return f"https://huggingface.co/{self.repository}/resolve/main/{self.file}"

    def path(self, folder: str) -> Path:
        """Where the file lies in a folder of models."""
        return Path(folder) / self.file


@lru_cache(maxsize=None)
def read_published_models(file: Path = MODELS_FILE) -> tuple[PublishedModel, ...]:
    """Read the list, in the order in which a project uses the models.

    Raises
    ------
    OSError, ValueError
        When the plugin is not completely installed.
    """
    entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    known = set(PublishedModel.__dataclass_fields__)
    return tuple(
        PublishedModel(**{key: value for key, value in entry.items() if key in known})
        for entry in entries
    )
