"""Denoise tomograms."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pyworkflow.protocol.params import BooleanParam
from pyworkflow.utils import Message
from tomo.objects import SetOfTomograms

from cryosiam_plugin.convert import tomogram_from
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.form_parts import (
    THREADS,
    defineComputeParams,
    defineGpuParams,
    defineStreamingParams,
    defineTomogramsParam,
)
from cryosiam_plugin.protocols.model_form import defineModelParams
from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase


class CryosiamDenoiseOutputs(Enum):
    """The result, besides the set of failed tomograms."""

    denoisedTomograms = SetOfTomograms


class ProtCryosiamDenoise(ProtCryosiamBase):
    """Removes the noise from tomograms with CryoSiam: the first step of all its others.

    Takes raw tomograms, as weighted back-projection gives them, with dark protein; gives tomograms
    with *bright* protein on a scale from 0 to 1. They are meant for looking at and for CryoSiam's
    lamella mask, segmentation and particle identification. Do not average subtomograms from them:
    extract those from the raw data.

    The half maps of the input are not passed on, since they are not halves of the result.
    """

    _label = "denoise tomograms"
    _possibleOutputs = CryosiamDenoiseOutputs
    _primaryOutput = CryosiamDenoiseOutputs.denoisedTomograms.name
    _doneWord = "denoised"
    MODEL_TASKS = ("denoising",)

    def _defineParams(self, form: Any) -> None:
        defineGpuParams(form)
        form.addSection(label=Message.LABEL_INPUT)
        defineTomogramsParam(
            form,
            "Raw tomograms",
            "Tomograms with *dark* protein, not filtered and not denoised before. CryoSiam's own "
            "models were trained on tomograms of about 7 to 14 Å per voxel.",
        )
        defineModelParams(form, self.getClassPackage().Plugin, self.MODEL_TASKS, "denoising")
        form.addParam(
            "scalePrediction",
            BooleanParam,
            default=True,
            label="Scale to 0 - 1?",
            help="Scales every denoised tomogram so that its values run from 0 to 1. CryoSiam's "
            "other models expect that.",
        )
        defineComputeParams(form)
        defineStreamingParams(form)
        form.addParallelSection(threads=THREADS, mpi=0)

    def _commands(self) -> list[str]:
        return ["denoise_predict"]

    def _configurationKeys(self) -> dict[str, Any]:
        return {"scale_prediction": bool(self.scalePrediction.get())}

    def _registerResult(self, tomogram: Any, first: EngineStatus, last: EngineStatus) -> None:
        path = self._resultOf(last, "tomogram")
        denoised = tomogram_from(tomogram, path)
        self._append(self._primaryOutput, SetOfTomograms, [denoised], tomogram.getTsId())
