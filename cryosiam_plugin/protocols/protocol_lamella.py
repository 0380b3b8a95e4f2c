"""Mask the lamella."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pyworkflow.protocol.params import BooleanParam
from pyworkflow.utils import Message
from tomo.objects import SetOfTomoMasks

from cryosiam_plugin.convert import tomo_mask_from
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.form_parts import (
    THREADS,
    defineComputeParams,
    defineGpuParams,
    defineStreamingParams,
    defineThresholdParam,
    defineTomogramsParam,
)
from cryosiam_plugin.protocols.model_form import defineModelParams
from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase

LAMELLA = {1: "lamella"}


class CryosiamLamellaOutputs(Enum):
    """The result, besides the set of failed tomograms."""

    lamellaMasks = SetOfTomoMasks


class ProtCryosiamLamella(ProtCryosiamBase):
    """Marks the lamella in tomograms that CryoSiam denoised.

    Gives a mask for each tomogram: 1 inside the lamella, 0 in the vacuum and the ice above and
    below it. Give the masks to CryoSiam's segmentation and particle identification, so that
    nothing is found outside, or to any other protocol that takes masks of tomograms.
    """

    _label = "lamella mask"
    _possibleOutputs = CryosiamLamellaOutputs
    _primaryOutput = CryosiamLamellaOutputs.lamellaMasks.name
    _doneWord = "masked"
    MODEL_TASKS = ("lamella",)

    def _defineParams(self, form: Any) -> None:
        defineGpuParams(form)
        form.addSection(label=Message.LABEL_INPUT)
        defineTomogramsParam(
            form, "Denoised tomograms", "The output of CryoSiam's _denoise tomograms_."
        )
        defineModelParams(form, self.getClassPackage().Plugin, self.MODEL_TASKS, "lamella")
        defineThresholdParam(
            form,
            0.9,
            "What is more probable than this to be lamella belongs to it. 0.9 is the authors' "
            "choice; take 0.7 if the mask cuts off too much.",
        )
        form.addParam(
            "cleanUp",
            BooleanParam,
            default=True,
            label="One smooth piece?",
            help="Smooths the probability, keeps only the largest connected piece, and fills its "
            "hollows (convex hull).",
        )
        form.addParam(
            "hull3d",
            BooleanParam,
            default=False,
            condition="cleanUp",
            label="Fill hollows in 3D?",
            help="*No*: hollows are filled in each z section by itself, which suits most "
            "lamellae.\n*Yes*: one convex body for the whole volume.",
        )
        defineComputeParams(form)
        defineStreamingParams(form)
        form.addParallelSection(threads=THREADS, mpi=0)

    def _commands(self) -> list[str]:
        return ["semantic_predict"]

    def _configurationKeys(self) -> dict[str, Any]:
        return {"output_format": "mrc"}

    def _networkSection(self) -> dict[str, Any]:
        return {
            "threshold": float(self.threshold.get()),
            "postprocessing": bool(self.cleanUp.get()),
            "3d_postprocessing": bool(self.cleanUp.get() and self.hull3d.get()),
        }

    def _registerResult(self, tomogram: Any, first: EngineStatus, last: EngineStatus) -> None:
        path = self._resultOf(last, "labels", ".mrc")
        mask = tomo_mask_from(tomogram, path, LAMELLA)
        self._append(self._primaryOutput, SetOfTomoMasks, [mask], tomogram.getTsId())

    def _methodsSettings(self) -> str:
        return f"with a probability threshold of {self.threshold.get():g}, "
