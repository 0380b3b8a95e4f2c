"""Semantic segmentation."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pyworkflow.protocol.params import BooleanParam, StringParam
from pyworkflow.utils import Message
from tomo.objects import SetOfTomoMasks

from cryosiam_plugin.convert import tomo_mask_from
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.class_lists import class_name, class_table, parse_sizes
from cryosiam_plugin.protocols.form_parts import (
    THREADS,
    defineComputeParams,
    defineGpuParams,
    defineMasksParam,
    defineStreamingParams,
    defineThresholdParam,
    defineTomogramsParam,
)
from cryosiam_plugin.protocols.model_choice import chosenModel
from cryosiam_plugin.protocols.model_form import defineModelParams
from cryosiam_plugin.protocols.probability_maps import outputName, writeMaps
from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase

#: In the form: the sizes that the model's authors recommend.
RECOMMENDED = "recommended"


class CryosiamSemanticOutputs(Enum):
    """The result, besides probability maps and the set of failed tomograms."""

    semanticMasks = SetOfTomoMasks


class ProtCryosiamSemantic(ProtCryosiamBase):
    """Gives every voxel of a tomogram that CryoSiam denoised a class: membrane, particle...

    The result is a label volume for each tomogram: 0 is background, 1, 2... are the classes of
    the model. To get the centres of particles, use _particle identification_.
    """

    _label = "semantic segmentation"
    _possibleOutputs = CryosiamSemanticOutputs
    _primaryOutput = CryosiamSemanticOutputs.semanticMasks.name
    _doneWord = "segmented"
    MODEL_TASKS = ("semantic",)

    def _defineParams(self, form: Any) -> None:
        defineGpuParams(form)
        form.addSection(label=Message.LABEL_INPUT)
        defineTomogramsParam(
            form, "Denoised tomograms", "The output of CryoSiam's _denoise tomograms_."
        )
        defineMasksParam(form)
        defineModelParams(form, self.getClassPackage().Plugin, self.MODEL_TASKS, "semantic")
        defineThresholdParam(
            form,
            0.1,
            "A voxel gets its most probable class if that is at least so probable, else it is "
            "background. The authors take 0.1 for cellular structures and 0.7 for particles.",
        )
        form.addParam(
            "minimumSizes",
            StringParam,
            default=RECOMMENDED,
            label="Minimum component size (voxels)",
            help="Connected components that are not larger than this become background, class by "
            "class, as '1: 5000, ribosome: 100'. Classes that are not named keep everything.\n"
            f"*{RECOMMENDED}*: what the authors of a published model recommend (for _semantic_: "
            "5000 voxels for membranes); nothing for other models. Empty: keep everything.",
        )
        form.addParam(
            "probabilityMaps",
            BooleanParam,
            default=False,
            label="Probability maps?",
            help="Also keep how probable each class is in every voxel, one output per class. Each "
            "map needs four times the disk space of an 8-bit tomogram.",
        )
        defineComputeParams(form)
        defineStreamingParams(form)
        form.addParallelSection(threads=THREADS, mpi=0)

    def _commands(self) -> list[str]:
        filtered = any(size >= 0 for size in self._sizes())
        return ["semantic_predict"] + (["semantic_postprocessing"] if filtered else [])

    def _sizes(self) -> list[int]:
        model = chosenModel(self)
        text = (self.minimumSizes.get() or "").strip()
        if text.lower() == RECOMMENDED:
            return list(model.recommended_network("postprocessing_sizes", []))
        return parse_sizes(text, model.classes)

    def _configurationKeys(self) -> dict[str, Any]:
        return {"output_format": "mrc", "save_internal_files": bool(self.probabilityMaps.get())}

    def _networkSection(self) -> dict[str, Any]:
        network: dict[str, Any] = {"threshold": float(self.threshold.get())}
        if self._sizes():
            network["postprocessing_sizes"] = self._sizes()
        return network

    def _registerResult(self, tomogram: Any, first: EngineStatus, last: EngineStatus) -> None:
        path = self._resultOf(last, "labels", ".mrc")
        names = chosenModel(self).classes
        if self.probabilityMaps.get():
            self._registerMaps(tomogram, Path(self._resultOf(last, "labels", ".h5")), names)
        mask = tomo_mask_from(tomogram, path, self._classTable(first))
        self._append(self._primaryOutput, SetOfTomoMasks, [mask], tomogram.getTsId())

    def _registerMaps(self, tomogram: Any, hdf5: Path, names: dict[int, str]) -> None:
        for class_id, path in writeMaps(hdf5, tomogram.getSamplingRate()):
            name = class_name(class_id, names)
            item = tomo_mask_from(tomogram, str(path), {class_id: name})
            output = outputName(class_id, names)
            self._append(output, SetOfTomoMasks, [item], tomogram.getTsId())

    def _classTable(self, status: EngineStatus) -> dict[int, str]:
        """Names of all classes; the engine counts the voxels of every one of them."""
        return class_table(status.summary.get("voxels_per_class", {}), chosenModel(self).classes)

    def _problems(self) -> list[str]:
        problems = super()._problems()
        try:
            self._sizes()
        except ValueError as error:
            problems.append(f"*Minimum component size*: {error}")
        return problems

    def _methodsSettings(self) -> str:
        return f"with a probability threshold of {self.threshold.get():g}, "
