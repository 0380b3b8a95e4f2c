"""The models that come with the engine: trained on simulated tomograms, for demonstrations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from cryosiam_engine.models.registry import Task

#: Of the names, so that nobody takes them for models of real data.
PREFIX = "demo-"


@dataclass(frozen=True)
class BuiltInModel:
    """A small model for demonstrations and tests, not for real data.

    Parameters
    ----------
    name
        Begins with ``demo-``.
    file
        File name in the engine's folder of built-in models.
    task
        What the network was trained for.
    description
        What it is for, in one line.
    voxel_size
        Å; of the simulated tomograms that it was trained on.
    masking_type
        For embeddings, as of published models.
    classes
        Names of label values.
    recommended
        What a configuration must say for it, laid out as there.
    """

    name: str
    file: str
    task: Task
    description: str
    voxel_size: float
    masking_type: int | None = None
    classes: dict[int, str] = field(default_factory=dict)
    recommended: dict[str, Any] = field(default_factory=dict)

    def path(self) -> Path:
        """Where the file lies.

        Raises
        ------
        CheckpointError
            When this installation lacks it.
        """
        from cryosiam_engine.demo_models import demo_model

        return demo_model(self.name.removeprefix(PREFIX))


@cache
def _registry() -> tuple[BuiltInModel, ...]:
    import yaml  # not needed for the command line to explain itself

    source = resources.files("cryosiam_engine").joinpath("built_in_models.yaml")
    entries = yaml.safe_load(source.read_text(encoding="utf-8"))
    return tuple(BuiltInModel(**entry) for entry in entries)


def built_in_models() -> list[BuiltInModel]:
    """List the built-in models in the order of the workflow."""
    return list(_registry())


def find_built_in(name_or_file: str | Path) -> BuiltInModel | None:
    """Find a built-in model by its name or by the name of its file; None if none is called so."""
    wanted = Path(name_or_file).name.lower()
    return next((model for model in _registry() if wanted in (model.name, model.file)), None)
