"""The form of the training protocol: what to learn from, and what to begin with."""

from __future__ import annotations

from typing import Any

from pyworkflow.protocol import constants as cts
from pyworkflow.protocol.params import (
    GE,
    BooleanParam,
    EnumParam,
    FloatParam,
    IntParam,
    PointerParam,
    Range,
    StringParam,
)
from pyworkflow.utils import Message

from cryosiam_plugin.protocols.form_parts import defineTomogramsParam
from cryosiam_plugin.protocols.model_form import defineModelParams

TRAINED, NEW = range(2)
SMALL, FULL = range(2)
#: Which part of a trained network learns.
HEADS, DECODER, EVERYTHING = range(3)
#: As the engine calls them, in the order of the form.
OPTIMIZERS = ["adamw", "adam", "sgd"]
SGD = OPTIMIZERS.index("sgd")
#: What a training can start from; the heads are new where they are of another task.
MODEL_TASKS = ("backbone", "semantic", "lamella", "denoising", "instance")

_FROM_TRAINED = f"startFrom=={TRAINED}"
_ADVANCED = {"expertLevel": cts.LEVEL_ADVANCED}
_NOT_NEGATIVE = [GE(0, error="must be 0 or more")]
_POSITIVE = [GE(1, error="must be 1 or more")]


def defineTrainingGpuParams(form: Any) -> None:
    """The choice of GPUs in the form's head."""
    form.addHidden(
        cts.USE_GPU,
        BooleanParam,
        default=True,
        label="Use GPU?",
        help="Without a GPU only the small network can be trained in reasonable time.",
    )
    form.addHidden(
        cts.GPU_LIST,
        StringParam,
        default="0",
        label="GPU IDs",
        help="The numbers of the GPUs to use, as '0' or '0,1'. Several train together, each on "
        "batches of its own. Under a queue only their number counts: the queue decides which they "
        "are.",
    )


def defineInputParams(form: Any, plugin: Any) -> None:
    """Tomograms, masks, and the network to begin with."""
    form.addSection(label=Message.LABEL_INPUT)
    defineTomogramsParam(
        form,
        "Denoised tomograms",
        "The output of CryoSiam's _denoise tomograms_: the model will be used on such tomograms. "
        "Those without a mask are left out.",
    )
    form.addParam(
        "inputMasks",
        PointerParam,
        pointerClass="SetOfTomoMasks",
        important=True,
        label="Masks to learn",
        help="What the model shall find: whole numbers, 0 is background, 1, 2... are the classes. "
        "They come from _masks from coordinates_, from another segmentation or from a drawing "
        "program. Masks and tomograms belong together by their tilt-series identifier (tsId) and "
        "have the same size.\n"
        "Everything that is 0 is learned as background: an object that was forgotten teaches the "
        "model not to find such objects.",
    )
    form.addParam(
        "classNames",
        StringParam,
        default="",
        label="Names of the classes (optional)",
        help="In the order of their numbers from 1 on, separated by commas, without the "
        "background: 'ribosome, proteasome'. Empty: those that the masks know.",
    )
    form.addParam(
        "modelName",
        StringParam,
        default="",
        label="Name of the model (optional)",
        help="How the new model is called in forms and summaries. Empty: after its classes and "
        "this run.",
    )
    _defineStartParams(form, plugin)


def _defineStartParams(form: Any, plugin: Any) -> None:
    form.addParam(
        "startFrom",
        EnumParam,
        choices=["a trained model", "a new network"],
        default=TRAINED,
        display=EnumParam.DISPLAY_HLIST,
        label="Start from",
        help="*a trained model*: it has learned from many tomograms already what cells look like, "
        "so a few of yours are enough. The authors' way, with their model _backbone_.\n"
        "*a new network*: nothing is known at first. Needs more tomograms and time.",
    )
    # The same choice of models as in the forms of the protocols that use them.
    defineModelParams(form, plugin, MODEL_TASKS, "backbone", _FROM_TRAINED)
    form.addParam(
        "networkSize",
        EnumParam,
        choices=["small", "full"],
        default=SMALL,
        condition=f"startFrom=={NEW}",
        label="Size of the network",
        help="*small*: trains in minutes to hours, also on a CPU; enough for a few kinds of "
        "particles at one voxel size.\n*full*: as large as the published models. Needs a GPU.",
    )
    form.addParam(
        "learns",
        EnumParam,
        choices=["heads", "heads and decoder", "everything"],
        default=DECODER,
        condition=_FROM_TRAINED,
        label="What learns",
        help="Of the trained model. The less learns, the fewer tomograms are needed.\n"
        "*heads*: only the last layers, which are new for new classes.\n"
        "*heads and decoder*: the authors' choice.\n"
        "*everything*: also the encoder. For tomograms that look unlike the authors', or many of "
        "them.",
        **_ADVANCED,
    )


def defineTrainingParams(form: Any) -> None:
    """How long is trained, on what, and how it is judged."""
    form.addSection(label="Training")
    form.addParam(
        "maxEpochs",
        IntParam,
        default=100,
        validators=_POSITIVE,
        label="Epochs at most",
        help="After each epoch the model is judged by the tomograms for validation; the best one "
        "is kept. The learning rate falls to zero towards the last of these epochs.",
    )
    form.addParam(
        "earlyStopping",
        IntParam,
        default=15,
        validators=_NOT_NEGATIVE,
        label="Stop early after (epochs)",
        help="The training ends after so many validations in which the model has not become "
        "better. 0: it never ends early. In any case, _Analyze Results_ shows the learning curves "
        "while it runs, with a button to stop and keep the best model.",
    )
    _defineValidationParams(form)


def _defineValidationParams(form: Any) -> None:
    form.addParam(
        "validationFraction",
        FloatParam,
        default=0.2,
        validators=[Range(0.01, 0.9, error="must be between 0.01 and 0.9")],
        label="Part for validation",
        help="This part of the tomograms (at least one, drawn at random) is not learned from; it "
        "judges the model. Of a single tomogram, its end along the longest axis, with this part of "
        "the labelled voxels.",
    )
    form.addParam(
        "validationTsIds",
        StringParam,
        default="",
        label="Tomograms for validation (optional)",
        help="Their tsIds, separated by commas, instead of a random choice.",
        **_ADVANCED,
    )
    form.addParam(
        "validationPatches",
        IntParam,
        default=100,
        validators=_POSITIVE,
        label="Patches for validation",
        help="At most so many, of a regular grid, always the same.",
        **_ADVANCED,
    )
    form.addParam(
        "validationInterval",
        IntParam,
        default=1,
        validators=_POSITIVE,
        label="Validate every (epochs)",
        help="1: after each epoch. More saves time where there is much to validate.",
        **_ADVANCED,
    )
