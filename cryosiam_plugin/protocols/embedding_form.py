"""The form of the embeddings protocol, part by part."""

from __future__ import annotations

from typing import Any

from pyworkflow.protocol.constants import LEVEL_ADVANCED
from pyworkflow.protocol.params import (
    GE,
    BooleanParam,
    EnumParam,
    FloatParam,
    IntParam,
    PointerParam,
    Positive,
)

from cryosiam_plugin.protocols.form_parts import TILINGS, definePrecisionParam, defineProcessParams
from cryosiam_plugin.protocols.slurm_form import defineSlurmParams

FROM_INSTANCES, FROM_PARTICLES = range(2)
INSTANCES = f"source=={FROM_INSTANCES}"
PARTICLES = f"source=={FROM_PARTICLES}"

#: In the form: what the network sees of an instance. The first is what a published model knows.
MASKINGS = [
    "as the model was trained",
    "its convex hull",
    "only the instance itself",
    "its whole box",
]
#: The engine's numbers of the others.
MASKING_TYPES = {1: 1, 2: 2, 3: 0}
AS_TRAINED = 0


def defineSourceParams(form: Any) -> None:
    """What the particles are."""
    form.addParam(
        "source",
        EnumParam,
        choices=["instance masks", "particles"],
        default=FROM_INSTANCES,
        display=EnumParam.DISPLAY_HLIST,
        label="Describe",
        help="*instance masks*: volumes in which every particle has a number of its own, as "
        "CryoSiam's _instance segmentation_ makes them. Each particle is seen without what is "
        "around it.\n*particles*: coordinates of any program, or subtomograms that know where "
        "they come from. A cube around each of them is seen, with its surroundings.",
    )
    form.addParam(
        "inputInstances",
        PointerParam,
        pointerClass="SetOfTomoMasks",
        allowsNull=True,
        condition=INSTANCES,
        label="Instance masks",
        help="Whole numbers: 0 is background, 1, 2... are particles. Masks and tomograms belong "
        "together by their tilt-series identifier (tsId) and have the same size.",
    )
    form.addParam(
        "inputParticles",
        PointerParam,
        pointerClass="SetOfCoordinates3D,SetOfSubTomograms",
        allowsNull=True,
        condition=PARTICLES,
        label="Particles",
        help="Coordinates, or subtomograms with coordinates, of this plugin or of any other. They "
        "may have been picked in other tomograms of the same tilt series, of another voxel size: "
        "positions and box size are converted. Particles and tomograms belong together by their "
        "tilt-series identifier (tsId).",
    )


def defineViewParams(form: Any) -> None:
    """What the network sees of a particle."""
    form.addSection(label="Particles")
    form.addParam(
        "masking",
        EnumParam,
        choices=MASKINGS,
        default=AS_TRAINED,
        condition=INSTANCES,
        label="The network sees",
        help="How much of an instance's box stays visible; the rest becomes 0.\n"
        "*as the model was trained*: of the published models, which were trained for one of the "
        "following each.\n*its convex hull*: the instance with its dents filled.\n*only the "
        "instance itself*: nothing of the surroundings.\n*its whole box*: with all surroundings.",
    )
    form.addParam(
        "expandLabels",
        FloatParam,
        default=3.0,
        condition=INSTANCES,
        validators=[GE(0, error="must be 0 or more")],
        label="Grow the instances by (voxels)",
        help="Before that, each instance grows into the background around it, never into a "
        "neighbour. 3 is the authors' choice.",
    )
    _defineSizeParams(form)


def _defineSizeParams(form: Any) -> None:
    line = form.addLine(
        "Size of the instances (voxels)",
        condition=INSTANCES,
        help="Smaller and larger instances are left out. 0: no limit.",
    )
    for name, label in (("minimumVoxels", "from"), ("maximumVoxels", "to")):
        line.addParam(
            name, IntParam, default=0, validators=[GE(0, error="must be 0 or more")], label=label
        )
    form.addParam(
        "particleEdge",
        IntParam,
        default=0,
        condition=PARTICLES,
        validators=[GE(0, error="must be 0 or more")],
        label="Edge of the cube (voxels)",
        help="What is cut out around each particle, in voxels of these tomograms: about as large "
        "as the particle. *0*: the box size of the particles, converted. A cube that is smaller "
        "than the network's input is filled up with zeros, of a larger one the middle is taken.",
    )


def defineNetworkParams(form: Any) -> None:
    """How the network is run; every default is a good one."""
    defineProcessParams(form)
    _defineInputParams(form)
    form.addParam(
        "tiling",
        EnumParam,
        choices=TILINGS,
        default=0,
        condition=INSTANCES,
        expertLevel=LEVEL_ADVANCED,
        label="Boxes",
        help="*auto*: the box of an instance grows with the instance.\n*reference*: as in the "
        "original CryoSiam, which cuts grown instances off at the box of the instance before, to "
        "get its very numbers.",
    )
    definePrecisionParam(form, expertLevel=LEVEL_ADVANCED)
    defineSlurmParams(form)


def _defineInputParams(form: Any) -> None:
    form.addParam(
        "batchSize",
        IntParam,
        default=10,
        validators=[GE(1, error="must be 1 or more")],
        expertLevel=LEVEL_ADVANCED,
        label="Particles at once",
        help="Particles that the network computes at the same time. If the memory of the GPU runs "
        "out, the engine goes on with fewer by itself.",
    )
    form.addParam(
        "patchSize",
        IntParam,
        default=64,
        validators=[Positive],
        expertLevel=LEVEL_ADVANCED,
        label="Input of the network (voxels)",
        help="Edge of the cube that the network gets, as it was in its training. The published "
        "models have 64; a demo model's own is taken.",
    )
    form.addParam(
        "contrastive",
        BooleanParam,
        default=True,
        expertLevel=LEVEL_ADVANCED,
        label="Contrastive model?",
        help="How the model was trained. All published models are contrastive: their embeddings "
        "have length 1. Of a demo model it is known.",
    )


def defineMapParam(form: Any, label: str = "Make a map?") -> None:
    """The interactive map."""
    form.addParam(
        "makeMap",
        BooleanParam,
        default=True,
        label=label,
        help="A web page on which every particle is a point and similar particles lie together "
        "(UMAP and PCA), with its slices beside the mouse. Select points there, and a button "
        "makes a set of them in this project. _Analyze Results_ opens it.",
    )
