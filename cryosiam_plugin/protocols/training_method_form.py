"""The form of the training protocol: optimisation, patches, augmentation."""

from __future__ import annotations

from typing import Any

from pyworkflow.protocol import constants as cts
from pyworkflow.protocol.params import (
    GE,
    GT,
    LT,
    BooleanParam,
    EnumParam,
    FloatParam,
    IntParam,
    Range,
)

from cryosiam_plugin.protocols.form_parts import definePrecisionParam
from cryosiam_plugin.protocols.training_form import OPTIMIZERS, SGD

_ADVANCED = {"expertLevel": cts.LEVEL_ADVANCED}
_POSITIVE = [GE(1, error="must be 1 or more")]
_NOT_NEGATIVE = [GE(0, error="must be 0 or more")]


def defineMethodParams(form: Any) -> None:
    """Optimiser, loss, seed, precision."""
    _defineOptimiserParams(form)
    _defineLossParams(form)
    form.addParam(
        "seed",
        IntParam,
        default=0,
        validators=_NOT_NEGATIVE,
        label="Seed",
        help="Of all random numbers. The same seed and input give the same model on the same "
        "computer (on a GPU, nearly).",
        **_ADVANCED,
    )
    definePrecisionParam(form, **_ADVANCED)


def _defineOptimiserParams(form: Any) -> None:
    form.addParam(
        "learningRate",
        FloatParam,
        default=0.001,
        validators=[GT(0, error="must be above 0")],
        label="Learning rate",
        help="Of the one-cycle schedule: rises to this value and falls to nearly zero. Lower it "
        "where the loss jumps up and down.",
        **_ADVANCED,
    )
    form.addParam(
        "optimizer",
        EnumParam,
        choices=OPTIMIZERS,
        default=0,
        label="Optimiser",
        help="How the weights follow the loss. *adamw* needs the least attention.",
        **_ADVANCED,
    )
    form.addParam(
        "momentum",
        FloatParam,
        default=0.9,
        condition=f"optimizer=={SGD}",
        validators=[*_NOT_NEGATIVE, LT(1, error="must be below 1")],
        label="Momentum",
        help="How much of the last step is in the next one, the same throughout the training.",
        **_ADVANCED,
    )
    form.addParam(
        "weightDecay",
        FloatParam,
        default=1e-5,
        validators=_NOT_NEGATIVE,
        label="Weight decay",
        help="Keeps the weights small.",
        **_ADVANCED,
    )


def _defineLossParams(form: Any) -> None:
    form.addParam(
        "useDice",
        BooleanParam,
        default=True,
        label="Dice loss?",
        help="Besides the probability of each voxel, also the overlap with the masks is learned: "
        "small classes count as much as large ones.",
        **_ADVANCED,
    )
    form.addParam(
        "predictDistances",
        BooleanParam,
        default=False,
        label="Also learn distances?",
        help="A further head learns how far each voxel is from the border of its class, which can "
        "make borders better. The protocols that use the model ignore it. Takes longer.",
        **_ADVANCED,
    )


def definePatchParams(form: Any) -> None:
    """Which patches the network learns from."""
    form.addSection(label="Patches")
    form.addParam(
        "patchSize",
        IntParam,
        default=64,
        validators=[GE(16, error="must be 16 or more")],
        label="Patch size (voxels)",
        help="Edge of the cubes that the network learns from; a multiple of 16. Several times the "
        "size of the objects. Larger ones need more memory: halve it when memory runs out.",
    )
    form.addParam(
        "batchSize",
        IntParam,
        default=4,
        validators=_POSITIVE,
        label="Patches at once",
        help="The network learns from so many patches in a step, on each GPU. Lower it when memory "
        "runs out.",
    )
    form.addParam(
        "patchesPerEpoch",
        IntParam,
        default=400,
        validators=_POSITIVE,
        label="Patches per epoch",
        help="So many patches are drawn from the tomograms, anew in every epoch.",
        **_ADVANCED,
    )
    _defineClassParams(form)


def _defineClassParams(form: Any) -> None:
    form.addParam(
        "classBalance",
        BooleanParam,
        default=True,
        label="Rare classes as often as frequent ones?",
        help="As many patches are drawn around voxels of a rare class as of a frequent one. "
        "Otherwise they are drawn anywhere.",
        **_ADVANCED,
    )
    form.addParam(
        "allowEmptyClasses",
        BooleanParam,
        default=False,
        label="Allow classes without voxels?",
        help="Classes that no mask for training has any voxel of cannot be learned. *No*: the "
        "protocol ends at once and names them. *Yes*: it goes on; the model will never find them.",
        **_ADVANCED,
    )


def defineAugmentationParams(form: Any) -> None:
    """How the patches are varied, so that a few tomograms teach more."""
    _defineTurningParams(form)
    _defineContrastParams(form)
    _defineRareVariationParams(form)


def _defineTurningParams(form: Any) -> None:
    form.addParam(
        "flip",
        BooleanParam,
        default=True,
        label="Mirror?",
        help="Patches are mirrored along each axis, at random.",
    )
    form.addParam(
        "rotation",
        FloatParam,
        default=30.0,
        validators=[Range(0, 180, error="must be between 0 and 180 degrees")],
        label="Rotate by up to (degrees)",
        help="About each axis, at random. 0: not at all. The missing wedge is rotated as well.",
    )
    form.addParam(
        "zoom",
        FloatParam,
        default=0.0,
        validators=[Range(0, 50, error="must be between 0 and 50 %")],
        label="Zoom by up to (%)",
        help="Makes patches larger or smaller, at random. 0: not at all. For tomograms whose "
        "voxel size is not exactly the same.",
    )


def _defineContrastParams(form: Any) -> None:
    form.addParam(
        "intensity",
        FloatParam,
        default=0.2,
        validators=[Range(0, 1, error="must be between 0 and 1")],
        label="Vary contrast by up to",
        help="Grey values are multiplied by 1 plus or minus this, at random. 0: not at all.",
    )
    form.addParam(
        "noise",
        FloatParam,
        default=0.0,
        validators=_NOT_NEGATIVE,
        label="Add noise of up to",
        help="Standard deviation of Gaussian noise, where the tomogram runs from 0 to 1. 0: none.",
    )


def _defineRareVariationParams(form: Any) -> None:
    form.addParam(
        "lowPass",
        FloatParam,
        default=0.0,
        validators=_NOT_NEGATIVE,
        label="Blur by up to (voxels)",
        help="Standard deviation of a Gaussian low-pass filter. 0: none.",
        **_ADVANCED,
    )
    form.addParam(
        "elastic",
        FloatParam,
        default=0.0,
        validators=_NOT_NEGATIVE,
        label="Bend by up to",
        help="Strength of elastic deformation: 100 bends by about half a voxel. 0: none.",
        **_ADVANCED,
    )
    form.addParam(
        "combine",
        BooleanParam,
        default=False,
        label="Blur and noise together?",
        help="*Yes*: now and then a patch gets both. *No*: one of them, or none.",
        **_ADVANCED,
    )
