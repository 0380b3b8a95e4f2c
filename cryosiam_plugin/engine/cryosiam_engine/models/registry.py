"""The published models: what each is for, and where it comes from."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from cryosiam_engine.errors import ConfigurationError

Task = Literal["denoising", "lamella", "semantic", "instance", "backbone", "embedding"]

#: The folder where a user or a site keeps the models.
FOLDER_VARIABLE = "CRYOSIAM_MODELS"
#: Where the models are published.
HUB = "https://huggingface.co"


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
    revision
        Version of the repository: a branch, a tag or a commit.
    masking_type
        For embeddings: how the particle's surroundings were masked in training (0 not at all,
        1 outside its convex hull, 2 outside its own voxels); ``masking_type`` must be the same.
    recommended
        Documented settings, laid out as in a configuration.
    classes
        Names of label values, as far as they are documented.
    sha256
        Of the file, 64 hexadecimal digits; None where it is not known beforehand.
    """

    name: str
    file: str
    task: Task
    repository: str
    description: str
    revision: str = "main"
    masking_type: int | None = None
    recommended: dict[str, Any] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    sha256: str | None = None

    @property
    def url(self) -> str:
        """Where the file can be downloaded."""
        return f"{HUB}/{self.repository}/resolve/{self.revision}/{self.file}"


@cache
def _registry() -> tuple[PublishedModel, ...]:
    import yaml  # not needed for the command line to explain itself

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
    chosen = str(folder or os.environ.get(FOLDER_VARIABLE, ""))
    return Path(chosen).expanduser() if chosen else None


def required_folder(folder: str | Path | None = None) -> Path:
    """As :func:`models_folder`, as an absolute path, for what cannot be done without one.

    Raises
    ------
    ConfigurationError
        When neither the user nor the environment names one.
    """
    chosen = models_folder(folder)
    if chosen is None:
        raise ConfigurationError(
            "It is not known in which folder the models are kept.",
            remedy=f"Give it with --folder, or set {FOLDER_VARIABLE}.",
        )
    return chosen.absolute()
