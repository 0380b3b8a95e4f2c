"""Which model a protocol runs: published or built in, a file, or a model of this project."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Sequence

from cryosiam_plugin.constants import MODELS_PACKAGE
from cryosiam_plugin.protocols.checkpoint_summary import (
    CheckpointSummaryError,
    summarise_checkpoint,
)
from cryosiam_plugin.published_models import BuiltInModel

PUBLISHED, FILE, OBJECT = range(3)


@dataclass(frozen=True)
class ChosenModel:
    """A model as the user chose it.

    Attributes
    ----------
    name
        What it is called in summaries.
    path
        Its checkpoint; it need not exist.
    task
        ``denoising``, ``lamella``, ``semantic``...; empty where nothing is known about the file.
    classes
        Names of label values, as far as they are known.
    n_classes
        Label values without the background; 0 is unknown.
    voxel_size
        Å per voxel of the tomograms it was trained on; 0 is unknown.
    recommended
        Settings that its authors document, laid out as in a configuration.
    problem
        Why it cannot be used, with what to do; empty if it can.
    required
        Settings that it must have, whatever the form says, laid out as in a configuration.
    """

    name: str
    path: str
    task: str = ""
    classes: dict[int, str] = field(default_factory=dict)
    n_classes: int = 0
    voxel_size: float = 0.0
    recommended: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    required: dict[str, Any] = field(default_factory=dict)

    def recommended_network(self, key: str, default: Any) -> Any:
        """A documented value of the section parameters.network, or `default`."""
        return self.recommended.get("parameters", {}).get("network", {}).get(key, default)


def offeredFor(plugin: Any, tasks: Sequence[str]) -> list[Any]:
    """The models for some tasks, in the order of the form: published ones, then built-in ones."""
    # New ones only ever come last: a saved form knows its model by its place.
    published = [model for model in plugin.publishedModels() if model.task in tasks]
    return published + [model for model in plugin.builtInModels() if model.task in tasks]


def installCommand(name: str = "") -> str:
    """The command that brings a published model, or all of them, to this machine."""
    return f"scipion3 installb {MODELS_PACKAGE}{'-' if name else ''}{name}"


def chosenModel(protocol: Any) -> ChosenModel:
    """The model that a protocol's form names.

    Quick, and never raises: what is wrong with it stands in `problem`.
    """
    source = protocol.modelSource.get()
    if source == PUBLISHED:
        return _published(protocol)
    if source == FILE:
        return _file((protocol.modelFile.get() or "").strip())
    return _object(protocol.modelObject.get())


def modelProblem(model: ChosenModel, tasks: Sequence[str]) -> str | None:
    """Say in a user's words why `model` cannot do one of `tasks`; None if it can."""
    if model.problem:
        return model.problem
    # A lamella model is a segmentation model of one class, and its file says no more than that.
    one_class = model.task in ("lamella", "semantic") and model.n_classes <= 1
    segments = "lamella" in tasks or "semantic" in tasks
    if not model.task or model.task in tasks or (one_class and segments):
        return None
    return (
        f"The model {model.name} was trained for another task ({model.task}); this protocol needs "
        f"one for {' or '.join(tasks)}. Choose another model."
    )


def _published(protocol: Any) -> ChosenModel:
    plugin = protocol.getClassPackage().Plugin
    models = offeredFor(plugin, protocol.MODEL_TASKS)
    model = models[min(max(protocol.publishedModel.get(), 0), len(models) - 1)]
    if isinstance(model, BuiltInModel):
        return builtIn(model)
    path, problem = model.path(plugin.getModelsFolder()), ""
    if not path.is_file():
        problem = (
            f"The published model {model.name} is not on this machine: there is no {path}. "
            f"Run '{installCommand(model.name)}', or set CRYOSIAM_MODELS to the folder that has it."
        )
    chosen = ChosenModel(
        model.name,
        str(path),
        model.task,
        {int(c): str(name) for c, name in model.classes.items()},
        recommended=model.recommended,
        problem=problem,
    )
    n_channels = chosen.recommended_network("out_channels", 0)
    return replace(chosen, n_classes=max(n_channels - 1, 0))


def builtIn(model: BuiltInModel) -> ChosenModel:
    """A built-in model as a choice."""
    path = model.location
    lacking = f"The demo model {path.name} is missing in {path.parent}. Install the plugin again."
    return ChosenModel(
        model.name,
        str(path),
        model.task,
        dict(model.classes),
        len(model.classes),
        model.voxel_size,
        problem="" if path.is_file() else lacking,
        required=model.recommended,
    )


def _file(path: str) -> ChosenModel:
    if not path:
        return ChosenModel("", "", problem="Give the model file (.ckpt, .safetensors).")
    name = Path(path).name
    try:
        summary = summarise_checkpoint(str(Path(path).expanduser()))
    except CheckpointSummaryError as error:
        return ChosenModel(name, path, problem=str(error))
    absolute = str(Path(path).expanduser().absolute())
    return ChosenModel(name, absolute, summary.task, n_classes=summary.n_classes)


def _object(model: Any) -> ChosenModel:
    if model is None:
        return ChosenModel("", "", problem="Give a model: run 'import model' first.")
    path = model.getPath()
    problem = ""
    if not Path(path).is_file():
        problem = (
            f"The file of the model {model.getDisplayName()} is gone: {path}. Import it again."
        )
    return ChosenModel(
        model.getDisplayName(),
        str(Path(path).absolute()),
        model.getTask(),
        model.getClassNames(),
        model.getNClasses(),
        float(model.getSamplingRate() or 0.0),
        problem=problem,
    )
