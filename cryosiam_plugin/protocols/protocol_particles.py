"""Particle identification."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any

from pyworkflow.protocol.params import EnumParam, PointerParam
from pyworkflow.utils import Message
from tomo.objects import SetOfCoordinates3D, SetOfTomoMasks

from cryosiam_plugin.convert import (
    coordinates_from,
    label_table_of,
    link_tomogram,
    read_particles,
    rows_with_box_inside,
    tomo_mask_from,
)
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.class_lists import class_table, parse_classes
from cryosiam_plugin.protocols.form_parts import (
    THREADS,
    defineComputeParams,
    defineGpuParams,
    defineMasksParam,
    defineStreamingParams,
    defineThresholdParam,
    defineTomogramsParam,
)
from cryosiam_plugin.protocols.information import counted
from cryosiam_plugin.protocols.model_choice import ChosenModel, chosenModel
from cryosiam_plugin.protocols.model_form import defineModelParams
from cryosiam_plugin.protocols.particle_form import defineParticleParams
from cryosiam_plugin.protocols.probability_maps import outputName
from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase

FROM_TOMOGRAMS, FROM_MASKS = range(2)
#: In the record: particles whose box does not fit, by tsId.
_LEFT_OUT = "box_outside"


class CryosiamParticlesOutputs(Enum):
    """The results, besides one set per class and the set of failed tomograms."""

    coordinates = SetOfCoordinates3D
    semanticMasks = SetOfTomoMasks


class ProtCryosiamParticles(ProtCryosiamBase):
    """Finds particles in tomograms that CryoSiam denoised, and says of which class they are.

    Every voxel gets a class; the connected pieces of each class, eroded by one voxel so that
    particles that touch come apart, are the particles, and their centres of mass the coordinates.
    Each coordinate has the name of its class (_className), the class's number as its group, and
    its size in voxels (_nVoxels). Split them by class with _pwem - filter set_
    (item._className.get()=='ribosome'), or ask here for one set per class.

    It can also start from label volumes that exist already, such as those of CryoSiam's
    _semantic segmentation_.
    """

    _label = "particle identification"
    _possibleOutputs = CryosiamParticlesOutputs
    _primaryOutput = CryosiamParticlesOutputs.coordinates.name
    _doneWord = "searched"
    MODEL_TASKS = ("semantic",)

    def _defineParams(self, form: Any) -> None:
        network = f"source=={FROM_TOMOGRAMS}"
        defineGpuParams(form)
        form.addSection(label=Message.LABEL_INPUT)
        form.addParam(
            "source",
            EnumParam,
            choices=["denoised tomograms", "label masks"],
            default=FROM_TOMOGRAMS,
            display=EnumParam.DISPLAY_HLIST,
            label="Find particles in",
            help="*denoised tomograms*: a model labels every voxel, then the particles are found "
            "among the labels.\n*label masks*: the labels exist already.",
        )
        defineTomogramsParam(
            form,
            "Denoised tomograms",
            "The output of CryoSiam's _denoise tomograms_. For label masks: the tomograms that "
            "they belong to, of the same size. The coordinates will refer to these tomograms.",
        )
        form.addParam(
            "inputLabels",
            PointerParam,
            pointerClass="SetOfTomoMasks",
            allowsNull=True,
            condition=f"source=={FROM_MASKS}",
            label="Label masks",
            help="Whole numbers: 0 is background, 1, 2... are classes. Masks and tomograms belong "
            "together by their tilt-series identifier (tsId).",
        )
        defineMasksParam(form, network)
        self._defineModel(form, network)
        defineParticleParams(form)
        defineComputeParams(form, network)
        defineStreamingParams(form)
        form.addParallelSection(threads=THREADS, mpi=0)

    def _defineModel(self, form: Any, network: str) -> None:
        plugin = self.getClassPackage().Plugin
        defineModelParams(form, plugin, self.MODEL_TASKS, "particles-mycoplasma", network)
        defineThresholdParam(
            form,
            0.7,
            "A voxel gets its most probable class if that is at least so probable. Lower it to "
            "find more particles, raise it to find fewer and surer ones.",
            network,
        )

    def _commands(self) -> list[str]:
        return (["semantic_predict"] if self._computes() else []) + ["semantic_to_centers"]

    def _computes(self) -> bool:
        return self.source.get() == FROM_TOMOGRAMS

    def _model(self) -> ChosenModel | None:
        return super()._model() if self._computes() else None

    def _partners(self) -> dict[str, Any]:
        return super()._partners() if self._computes() else {"label mask": self.inputLabels}

    def _linkInputs(self, tsId: str) -> None:
        super()._linkInputs(tsId)
        if self._computes():
            return
        labels = self._feed.partners["label mask"][tsId]
        if tuple(labels.getDim()) != tuple(self._feed.tomograms[tsId].getDim()):
            raise ValueError(
                f"Its label mask is {labels.getDim()} voxels large, but the tomogram "
                f"{self._feed.tomograms[tsId].getDim()}. Give the tomograms that the masks were "
                "made from."
            )
        link_tomogram(labels, self._predictionFolder())

    def _configurationKeys(self) -> dict[str, Any]:
        return {"output_format": "mrc", "save_confidence": True} if self._computes() else {}

    def _networkSection(self) -> dict[str, Any]:
        network: dict[str, Any] = {"min_voxels": self.minimumVoxels.get()}
        if self._computes():
            network["threshold"] = float(self.threshold.get())
        return network

    def _registerResult(self, tomogram: Any, first: EngineStatus, last: EngineStatus) -> None:
        tsId = tomogram.getTsId()
        names = self._classNames(tsId)
        rows = read_particles(self._resultOf(last, "particles", ".csv"))
        chosen = parse_classes(self.classes.get(), names)
        rows = [row for row in rows if not chosen or row["semantic_class"] in chosen]
        rows = self._withBoxInside(rows, tomogram)
        if self._computes():
            table = class_table(first.summary.get("voxels_per_class", {}), names)
            mask = tomo_mask_from(tomogram, self._resultOf(first, "labels", ".mrc"), table)
            name = CryosiamParticlesOutputs.semanticMasks.name
            self._append(name, SetOfTomoMasks, [mask], tsId)
        if self.setPerClass.get():
            for class_id in sorted({row["semantic_class"] for row in rows}):
                mine = [row for row in rows if row["semantic_class"] == class_id]
                output = outputName(class_id, names, "coordinates")
                self._addParticles(output, mine, tomogram, names)
        self._addParticles(self._primaryOutput, rows, tomogram, names)

    def _withBoxInside(self, rows: list[dict[str, Any]], tomogram: Any) -> list[dict[str, Any]]:
        if not self.boxInside.get():
            return rows
        inside = rows_with_box_inside(rows, tomogram.getDim()[::-1], self.boxSize.get())
        with self._lock:
            record = self._record()
            record.setdefault(_LEFT_OUT, {})[tomogram.getTsId()] = len(rows) - len(inside)
            self.engineRecord.set(json.dumps(record, ensure_ascii=False))
            self._store(self.engineRecord)
        return inside

    def _addParticles(
        self, name: str, rows: list[dict[str, Any]], tomogram: Any, names: dict[int, str]
    ) -> None:
        if rows:
            particles = list(coordinates_from(rows, tomogram, names))
            box = self.boxSize.get()
            self._append(name, SetOfCoordinates3D, particles, tomogram.getTsId(), boxSize=box)

    def _classNames(self, tsId: str) -> dict[int, str]:
        if self._computes():
            return chosenModel(self).classes
        return label_table_of(self._feed.partners["label mask"][tsId])

    def _problems(self) -> list[str]:
        problems = super()._problems()
        labels = self.inputLabels.get()
        if not self._computes() and labels is None:
            problems.append("*Label masks* cannot be empty: give the masks to find particles in.")
        try:
            model = self._model()
            first = None if labels is None or self._computes() else labels.getFirstItem()
            names = model.classes if model else label_table_of(first) if first else {}
            parse_classes(self.classes.get(), names)
        except ValueError as error:
            problems.append(f"*Classes*: {error}")
        return problems

    def _emptyMessage(self) -> str:
        return (
            "No particles were found in any tomogram. Lower the threshold or the minimum size, and "
            "check the classes, the model and that the tomograms are denoised ones."
            + (" *Only where the box fits* may leave out all." if self.boxInside.get() else "")
        )

    def _resultLines(self) -> list[str]:
        output = getattr(self, self._primaryOutput, None)
        lines = [] if output is None else [f"{counted(output.getSize(), 'particle')} found."]
        left_out = sum(self._record().get(_LEFT_OUT, {}).values())
        if left_out:
            lines.append(
                f"{counted(left_out, 'particle')} left out, too close to the tomogram's end for a "
                f"box of {self.boxSize.get()} voxels."
            )
        return lines

    def _methodsSettings(self) -> str:
        threshold = f"with a probability threshold of {self.threshold.get():g} and "
        size = f"components of more than {self.minimumVoxels.get()} voxels as particles, "
        return (threshold if self._computes() else "taking ") + size
