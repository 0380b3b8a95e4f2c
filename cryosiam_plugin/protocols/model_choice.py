"""Which model a protocol runs: a published one, a file, or a model of this project."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Sequence

from pyworkflow.protocol.params import EnumParam, FileParam, PointerParam

from cryosiam_plugin.protocols.checkpoint_summary import (
    CheckpointSummaryError,
    summarise_checkpoint,
)

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
    """

    name: str
    path: str
    task: str = ""
    classes: dict[int, str] = field(default_factory=dict)
    n_classes: int = 0
    voxel_size: float = 0.0
    recommended: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    def recommended_network(self, key: str, default: Any) -> Any:
        """A documented value of the section parameters.network, or `default`."""
        return self.recommended.get("parameters", {}).get("network", {}).get(key, default)


def publishedFor(plugin: Any, tasks: Sequence[str]) -> list[Any]:
    """The published models for some tasks, in the order of the form."""
    return [model for model in plugin.publishedModels() if model.task in tasks]


def defineModelParams(
    form: Any, plugin: Any, tasks: Sequence[str], default: str, condition: str = "True"
) -> None:
    """Add the choice of a model to a form.

    Parameters
    ----------
    form
        The form, at the section where the choice belongs.
    plugin
        The plugin, which knows the published models.
    tasks
        What the model must have been trained for.
    default
        Name of the published model that is chosen at first.
    condition
        When the choice is to be made at all.
    """
    models = publishedFor(plugin, tasks)
    names = [model.name for model in models]
    lines = "\n".join(f" - *{model.name}*: {model.description}." for model in models)
    form.addParam(
        "modelSource",
        EnumParam,
        choices=["published model", "model file", "model of this project"],
        default=PUBLISHED,
        condition=condition,
        display=EnumParam.DISPLAY_HLIST,
        label="Model from",
        help="*published model*: one of those that the authors of CryoSiam give away.\n"
        "*model file*: a checkpoint (.ckpt) that you have, published or trained by CryoSiam.\n"
        "*model of this project*: the output of _import model_, which also knows the names of "
        "the classes and the voxel size.",
    )
    form.addParam(
        "publishedModel",
        EnumParam,
        choices=names,
        default=names.index(default),
        condition=f"{condition} and modelSource=={PUBLISHED}",
        label="Published model",
        help=f"{lines}\n\nThe files lie in the folder CRYOSIAM_MODELS; 'scipion3 installb "
        "cryosiam_models' downloads them.",
    )
    form.addParam(
        "modelFile",
        FileParam,
        condition=f"{condition} and modelSource=={FILE}",
        label="Model file",
        help="The checkpoint (.ckpt). It is read without running any code that it may carry.",
    )
    form.addParam(
        "modelObject",
        PointerParam,
        pointerClass="CryosiamModel",
        allowsNull=True,
        condition=f"{condition} and modelSource=={OBJECT}",
        label="Model",
        help="A model that _import model_ brought into this project.",
    )


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
    models = publishedFor(plugin, protocol.MODEL_TASKS)
    model = models[min(max(protocol.publishedModel.get(), 0), len(models) - 1)]
    path = Path(plugin.getModelsFolder()) / model.file
    problem = ""
    if not path.is_file():
        problem = (
            f"The published model {model.name} is not on this machine: there is no {path}. "
            "Run 'scipion3 installb cryosiam_models', or set CRYOSIAM_MODELS to the folder that "
            "has it."
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


def _file(path: str) -> ChosenModel:
    if not path:
        return ChosenModel("", "", problem="Give the model file (.ckpt).")
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
