"""The form of the instance segmentation: foreground, separation, and maps that are kept."""

from __future__ import annotations

from typing import Any

from pyworkflow.protocol.constants import LEVEL_ADVANCED
from pyworkflow.protocol.params import (
    GE,
    BooleanParam,
    EnumParam,
    FloatParam,
    PointerParam,
    Range,
    StringParam,
)

FROM_NETWORK, FROM_CLASSES = range(2)
DISTANCES = ["the network's", "mean of both", "Euclidean"]
PREDICTED, MEAN, EUCLIDEAN = range(3)


def defineForegroundParams(form: Any) -> None:
    """Where to look for instances."""
    classes = f"foregroundFrom=={FROM_CLASSES}"
    form.addParam(
        "foregroundFrom",
        EnumParam,
        choices=["the network", "semantic masks"],
        default=FROM_NETWORK,
        display=EnumParam.DISPLAY_HLIST,
        label="Foreground from",
        help="Where to look for instances.\n*the network*: wherever the model sees a "
        "particle, of whatever kind.\n*semantic masks*: in some classes of a semantic "
        "segmentation, to separate the particles of one kind.",
    )
    form.addParam(
        "inputLabels",
        PointerParam,
        pointerClass="SetOfTomoMasks",
        allowsNull=True,
        condition=classes,
        label="Semantic masks",
        help="The output of CryoSiam's _semantic segmentation_ or of any other program: whole "
        "numbers, 0 is background, 1, 2... are classes. Masks and tomograms belong together "
        "by their tilt-series identifier (tsId).",
    )
    form.addParam(
        "foregroundClasses",
        StringParam,
        default="",
        condition=classes,
        label="Classes",
        help="The classes that are foreground, by name or number: '2, ribosome, 4-6'. The wand "
        "lists those of the semantic masks.",
    )


def defineSeparationParams(form: Any) -> None:
    """How the foreground is cut into instances."""
    form.addParam(
        "thresholdForeground",
        FloatParam,
        default=0.65,
        validators=[Range(0, 1, error="must be a probability between 0 and 1")],
        label="Foreground threshold (probability)",
        help="What is at least so probable to be a particle is one. Lower it to find more and "
        "larger instances; if there are none at all, the summary says how high the "
        "probability was. 0.65 is the authors' choice.",
    )
    form.addParam(
        "distanceType",
        EnumParam,
        choices=DISTANCES,
        default=MEAN,
        label="Depth inside a particle",
        help="How deep a voxel lies below the surface of its particle, from 0 to 5 voxels: "
        "the particles are separated where this is low.\n*the network's*: as the network "
        "predicts it; it may see a border that the foreground does not show.\n*Euclidean*: "
        "the distance to the nearest voxel of the background, which goes by the outline "
        "alone.\n*mean of both*: the authors' choice.",
    )
    _defineCentres(form)
    _defineJoining(form)


def _defineCentres(form: Any) -> None:
    line = form.addLine(
        "Depth of the centres (voxels)",
        help="Every instance grows from a centre: a connected piece of voxels that lie at "
        "least so deep. The search goes from the lower depth to the higher one in steps of "
        "half a voxel; where a piece falls apart on the way, each part becomes an instance.\n"
        "A higher *from* leaves out small and thin particles; *from* and *to* closer together "
        "separate less. 1 and 5 are the authors' choice.",
    )
    positive = [GE(0, error="must be 0 or more")]
    line.addParam(
        "minCenterDistance",
        FloatParam,
        default=1.0,
        validators=positive,
        label="from",
        help="The least depth of a centre.",
    )
    line.addParam(
        "maxCenterDistance",
        FloatParam,
        default=5.0,
        validators=positive,
        label="to",
        help="The depth from which on nothing is separated any more.",
    )


def _defineJoining(form: Any) -> None:
    form.addParam(
        "joinParts",
        BooleanParam,
        default=False,
        label="Join over-split instances?",
        help="Looks at the borders between instances that touch: where the network sees no "
        "boundary, the two become one (multicut). Takes longer.",
    )
    form.addParam(
        "boundaryBias",
        FloatParam,
        default=0.8,
        condition="joinParts",
        validators=[Range(0.01, 0.99, error="must be between 0.01 and 0.99")],
        label="Boundary bias",
        help="How readily instances stay apart. Above 0.5 weak boundaries separate too; below "
        "0.5 only strong ones do, so that more is joined. 0.8 is the authors' choice.",
    )


def defineMapsParams(form: Any) -> None:
    """Keeping what the network gave, and using it again."""
    form.addParam(
        "keepMaps",
        BooleanParam,
        default=False,
        label="Keep the network's maps?",
        help="Keep foreground, depth and boundary as the network gave them, so that a further "
        "run can try other settings of this page without computing the network again (see "
        "below). They need twelve bytes a voxel: three times a 32-bit tomogram.",
    )
    form.addParam(
        "earlierRun",
        PointerParam,
        pointerClass="ProtCryosiamInstances",
        allowsNull=True,
        expertLevel=LEVEL_ADVANCED,
        label="Use the maps of (optional)",
        help="An earlier run of this protocol that kept its maps. A map is used if tomogram, "
        "lamella mask, model, tiling and precision are the same and it was made on the same kind "
        "of device (GPU or CPU). Otherwise the network is computed.",
    )
