"""Parts of a form that several protocols have."""

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

from cryosiam_plugin.protocols.slurm_form import defineSlurmParams

#: Scipion threads at first: the main process, the one that looks for new tomograms, one worker.
THREADS = 3
PRECISIONS = ["auto", "fp32", "bf16", "fp16"]
TILINGS = ["auto", "reference"]


def defineGpuParams(form: Any) -> None:
    """The choice of GPUs in the form's head."""
    form.addHidden(
        cts.USE_GPU,
        BooleanParam,
        default=True,
        label="Use GPU?",
        help="Without a GPU a tomogram takes hours instead of minutes.",
    )
    form.addHidden(
        cts.GPU_LIST,
        StringParam,
        default="0",
        label="GPU IDs",
        help="The numbers of the GPUs to use, as '0' or '0,1'. Each GPU gets a process of its own, "
        "with its share of the tomograms; give one Scipion thread more for each further GPU. "
        "Under a queue only their number counts: the queue decides which they are.",
    )


def defineTomogramsParam(form: Any, label: str, text: str) -> None:
    """The input tomograms."""
    form.addParam(
        "inputTomograms",
        PointerParam,
        pointerClass="SetOfTomograms",
        important=True,
        label=label,
        help=text,
    )


def defineMasksParam(form: Any, condition: str = "True") -> None:
    """Optional lamella masks."""
    form.addParam(
        "inputMasks",
        PointerParam,
        pointerClass="SetOfTomoMasks",
        allowsNull=True,
        condition=condition,
        label="Lamella masks (optional)",
        help="Only what is inside the mask (values above 0) is looked at; everything else becomes "
        "background. Masks and tomograms belong together by their tilt-series identifier (tsId); "
        "a tomogram without a mask is left out and listed as failed.",
    )


def defineThresholdParam(form: Any, default: float, text: str, condition: str = "True") -> None:
    """The probability from which on a voxel belongs to a class."""
    form.addParam(
        "threshold",
        FloatParam,
        default=default,
        condition=condition,
        validators=[Range(0, 1, error="must be a probability between 0 and 1")],
        label="Threshold (probability)",
        help=text,
    )


def defineProcessParams(form: Any) -> None:
    """How the tomograms are shared out among engine processes."""
    form.addSection(label="Compute")
    form.addParam(
        "tomogramsPerProcess",
        IntParam,
        default=0,
        validators=[GE(0, error="must be 0 or more")],
        label="Tomograms per engine process",
        help="The model is loaded once per process. 0 is automatic: all tomograms in one process "
        "(one for each GPU) on this computer, one tomogram per job when the steps go to a queue "
        "or to a job array. Whatever is chosen, each result appears as soon as its tomogram is "
        "finished.",
    )


def defineComputeParams(form: Any, condition: str = "True") -> None:
    """How the network is run; every default is a good one."""
    defineProcessParams(form)
    advanced = {"expertLevel": cts.LEVEL_ADVANCED, "condition": condition}
    form.addParam(
        "batchSize",
        IntParam,
        default=1,
        validators=[GE(1, error="must be 1 or more")],
        label="Tiles at once",
        help="Tiles of the tomogram that the network computes at the same time. More needs more "
        "memory of the GPU and is seldom faster. Lower it when memory runs out.",
        **advanced,
    )
    form.addParam(
        "tiling",
        EnumParam,
        choices=TILINGS,
        default=0,
        label="Tiling",
        help="*auto*: the largest tiles that fit into memory, without seams, and much faster.\n"
        "*reference*: the tiles of the original CryoSiam, to get its very numbers.",
        **advanced,
    )
    definePrecisionParam(form, **advanced)
    defineSlurmParams(form)


def definePrecisionParam(form: Any, **options: Any) -> None:
    """The numbers that the network computes with; `options` go to the parameter."""
    form.addParam(
        "precision",
        EnumParam,
        choices=PRECISIONS,
        default=0,
        label="Precision",
        help="*auto*: 32-bit numbers, with the fast units of the GPU where it has them. *bf16* "
        "and *fp16* are faster on recent GPUs and need less memory; results differ slightly.",
        **options,
    )


def defineStreamingParams(form: Any) -> None:
    """How often to look for tomograms that are still to come."""
    form.addSection(label="Streaming")
    # Scipion's own section has a batch size, which is _tomogramsPerProcess_ here, and no pause.
    form.addParam(
        "streamingSleepOnWait",
        IntParam,
        default=10,
        validators=[GE(1, error="must be 1 or more")],
        label="Look for new tomograms every (s)",
        help="While the protocols that make the tomograms and masks are still running: seconds "
        "between two looks at what they have finished. For finished inputs it does not matter.",
    )
