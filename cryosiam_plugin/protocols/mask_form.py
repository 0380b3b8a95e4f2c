"""The form of masks from coordinates."""

from __future__ import annotations

from typing import Any

from pyworkflow.protocol.params import (
    BooleanParam,
    EnumParam,
    MultiPointerParam,
    PointerParam,
    StringParam,
)
from pyworkflow.utils import Message

EACH_SET, EACH_PARTICLE = range(2)
SPHERES, MAPS = range(2)

RADII_EXAMPLE = "ribosome: 140, proteasome: 80"
THRESHOLDS_EXAMPLE = "ribosome: 0.02, proteasome: 0.015"


def defineMaskParams(form: Any) -> None:
    """The whole form."""
    form.addSection(label=Message.LABEL_INPUT)
    _defineParticles(form)
    _defineClasses(form)
    _defineTomograms(form)
    form.addSection(label="Shapes")
    _defineShapes(form)


def _defineParticles(form: Any) -> None:
    form.addParam(
        "inputCoordinates",
        MultiPointerParam,
        pointerClass="SetOfCoordinates3D,SetOfSubTomograms",
        minNumObjects=1,
        important=True,
        label="Particles",
        help="One or several sets of coordinates, or of subtomograms that know where they come "
        "from, of this plugin or of any other. They may have been picked in tomograms of another "
        "voxel size: positions are converted. The shifts of aligned subtomograms are applied.",
    )


def _defineClasses(form: Any) -> None:
    form.addParam(
        "classesFrom",
        EnumParam,
        choices=["the sets: each is a class", "the particles: each has its class"],
        default=EACH_SET,
        label="Classes are",
        help="*the sets*: all particles of a set are of one class.\n*the particles*: every "
        "particle tells its class, by name (column _className, as CryoSiam's _particle "
        "identification_ gives it) or, without a name, by its group.",
    )
    form.addParam(
        "classNames",
        StringParam,
        default="",
        label="Names of the classes (optional)",
        help="In the order of the sets, or, where the particles have classes, those to take: "
        "'ribosome, proteasome' become the values 1 and 2 of the masks. For other values write "
        "'2: ribosome, 4: rubisco', such as those that a model was trained with. Empty: all "
        "classes with the names that the particles have; the values are the numbers of the sets, "
        "or the particles' groups.",
    )


def _defineShapes(form: Any) -> None:
    form.addParam(
        "shapes",
        EnumParam,
        choices=["spheres", "average maps"],
        default=SPHERES,
        display=EnumParam.DISPLAY_HLIST,
        label="Draw",
        help="*spheres*: a ball around the centre of each particle. Where balls overlap, a voxel "
        "belongs to the nearest centre.\n*average maps*: the average of the class, cut at a "
        "threshold and turned as each particle is. Where particles overlap, the class with the "
        "higher number gets the voxel.",
    )
    form.addParam(
        "radii",
        StringParam,
        default="",
        condition=f"shapes=={SPHERES}",
        label="Radius (Å)",
        help="Of the spheres: one for all classes (140), one for each in the order of their "
        f"numbers (140, 80), or by name ({RADII_EXAMPLE}). About the radius of the particle: 140 "
        "Å for ribosomes. The wand lists the classes.",
    )
    _defineMaps(form)


def _defineMaps(form: Any) -> None:
    form.addParam(
        "inputMaps",
        MultiPointerParam,
        pointerClass="AverageSubTomogram,Volume",
        minNumObjects=1,
        allowsNull=True,
        condition=f"shapes=={MAPS}",
        label="Average maps",
        help="One for each class, in the order of their numbers: the averages that the particles' "
        "orientations refer to, protein bright. Their voxel size may be another one than that of "
        "the tomograms.",
    )
    form.addParam(
        "thresholds",
        StringParam,
        default="",
        condition=f"shapes=={MAPS}",
        label="Map threshold",
        help="Voxels of the map from this density on are the particle: the level at which a "
        "viewer shows a good surface. One for all maps, one for each in their order, or by name "
        f"({THRESHOLDS_EXAMPLE}).",
    )


def _defineTomograms(form: Any) -> None:
    form.addParam(
        "referenceTomograms",
        PointerParam,
        pointerClass="SetOfTomograms",
        allowsNull=True,
        label="Tomograms (optional)",
        help="The tomograms that the masks are for: they get their size, voxel size and origin. "
        "They belong to the particles by their tilt-series identifier (tsId). Empty: the tomograms "
        "in which the first set of particles was picked.",
    )
    form.addParam(
        "emptyMasks",
        BooleanParam,
        default=False,
        label="Masks without particles?",
        help="Also make (empty) masks for the tomograms in which there are no particles. In "
        "training they say that there is nothing to find: ask for them only if that is true.",
    )
