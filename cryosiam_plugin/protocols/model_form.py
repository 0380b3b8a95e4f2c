"""The form's choice of a model."""

from __future__ import annotations

from typing import Any, Sequence

from pyworkflow.protocol.params import EnumParam, FileParam, PointerParam

from cryosiam_plugin.protocols.model_choice import (
    FILE,
    OBJECT,
    PUBLISHED,
    installCommand,
    offeredFor,
)
from cryosiam_plugin.published_models import BuiltInModel


def _label(plugin: Any, model: Any) -> str:
    """How a model is called in the form's list."""
    if isinstance(model, BuiltInModel):
        return f"{model.name} (for trying out)"
    there = model.path(plugin.getModelsFolder()).is_file()
    return model.name if there else f"{model.name} (not installed)"


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
    _defineSourceParam(form, condition)
    _definePublishedParam(form, plugin, tasks, default, condition)
    _defineOwnModelParams(form, condition)


def _defineSourceParam(form: Any, condition: str) -> None:
    form.addParam(
        "modelSource",
        EnumParam,
        choices=["published or demo model", "model file", "model of this project"],
        default=PUBLISHED,
        condition=condition,
        display=EnumParam.DISPLAY_HLIST,
        label="Model from",
        help="*published or demo model*: one of those that the authors of CryoSiam give away, or "
        "a small one that comes with the plugin, for trying out.\n"
        "*model file*: a file (.ckpt, .safetensors) that you have, published or trained by "
        "CryoSiam.\n"
        "*model of this project*: the output of _import model_ or of a training, which also knows "
        "the names of the classes and the voxel size.",
    )


def _definePublishedParam(
    form: Any, plugin: Any, tasks: Sequence[str], default: str, condition: str
) -> None:
    models = offeredFor(plugin, tasks)
    names = [model.name for model in models]
    lines = "\n".join(f" - *{model.name}*: {model.description}." for model in models)
    form.addParam(
        "publishedModel",
        EnumParam,
        choices=[_label(plugin, model) for model in models],
        default=names.index(default),
        condition=f"{condition} and modelSource=={PUBLISHED}",
        label="Published or demo model",
        help=f"{lines}\n\nPublished models lie in the folder CRYOSIAM_MODELS. "
        f"'{installCommand()}' downloads all of them, '{installCommand(default)}' only that one. "
        "Demo models come with the plugin; they were trained on simulated tomograms and are not "
        "for real data.",
    )


def _defineOwnModelParams(form: Any, condition: str) -> None:
    form.addParam(
        "modelFile",
        FileParam,
        condition=f"{condition} and modelSource=={FILE}",
        label="Model file",
        help="The file (.ckpt, .safetensors). It is read without running any code that it may "
        "carry.",
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
