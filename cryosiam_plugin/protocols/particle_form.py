"""The part of a form that says what a particle is and which ones are kept."""

from __future__ import annotations

from typing import Any

from pyworkflow.protocol.params import GE, BooleanParam, IntParam, Positive, StringParam


def defineParticleParams(form: Any) -> None:
    """Classes, sizes, and what becomes of the particles."""
    form.addSection(label="Particles")
    form.addParam(
        "classes",
        StringParam,
        default="",
        label="Classes",
        help="Numbers, ranges or names, as '1, 3-5, ribosome'. Empty: all classes.",
    )
    form.addParam(
        "minimumVoxels",
        IntParam,
        default=10,
        validators=[GE(0, error="must be 0 or more")],
        label="Minimum size (voxels)",
        help="Pieces that are not larger than this after the erosion by one voxel are no "
        "particles. A ribosome of 250 Å has about 8000 voxels at 10 Å per voxel, of which the "
        "labels often cover a part.",
    )
    _defineBoxParams(form)
    form.addParam(
        "setPerClass",
        BooleanParam,
        default=False,
        label="One set per class too?",
        help="Besides the set with all particles, make one for each class, ready for "
        "subtomogram averaging.",
    )


def _defineBoxParams(form: Any) -> None:
    form.addParam(
        "boxSize",
        IntParam,
        default=32,
        validators=[Positive],
        label="Box size (voxels)",
        help="About one and a half times the particle's diameter, in voxels of these "
        "tomograms. It is kept with the coordinates for the extraction and for looking at them.",
    )
    form.addParam(
        "boxInside",
        BooleanParam,
        default=False,
        label="Only where the box fits?",
        help="Leave out particles so close to the tomogram's end that a part of their box is "
        "outside: programs that extract subtomograms drop or pad them. The Summary says how many.",
    )
