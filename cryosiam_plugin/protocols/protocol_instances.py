"""Instance segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyworkflow.utils import Message

from cryosiam_plugin.convert import label_table_of, link_tomogram, read_instances
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.class_lists import class_name, parse_classes
from cryosiam_plugin.protocols.form_parts import (
    THREADS,
    defineComputeParams,
    defineGpuParams,
    defineMasksParam,
    defineStreamingParams,
    defineTomogramsParam,
)
from cryosiam_plugin.protocols.instance_form import (
    FROM_CLASSES,
    defineForegroundParams,
    defineMapsParams,
    defineSeparationParams,
)
from cryosiam_plugin.protocols.instance_results import (
    CryosiamInstancesOutputs,
    InstanceResults,
    defineResultParams,
)
from cryosiam_plugin.protocols.model_form import defineModelParams
from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase

#: The engine's word for the record of finished maps.
_MAPS_RECORD = "instance_maps"


class ProtCryosiamInstances(InstanceResults, ProtCryosiamBase):
    """Separates single particles, also touching ones, in tomograms that CryoSiam denoised.

    A network says where particles are (the foreground) and how deep inside a particle each voxel
    lies. The foreground is cut into particles (instances) along the valleys between their deepest
    places. The result is a volume for each tomogram in which every instance has its own number,
    from 1, and a coordinate for each instance at its centre of mass, with

     - its number in that volume (_instanceId),
     - its size in voxels and in nm³ (_nVoxels, _volumeNm3),
     - its first and last voxel along each axis, counted from 0 (_minX to _maxZ),
     - the mean probability of its voxels to be foreground, as the score,
     - its class as the group and by name (_className), where semantic masks are the foreground;
       without them, and where several classes are taken together, group 1 and 'instance'.

    Choose among the instances with _pwem - filter set_ (item._volumeNm3.get() > 500), or by where
    they lie with _filter instances by mask_.
    """

    _label = "instance segmentation"
    _possibleOutputs = CryosiamInstancesOutputs
    _primaryOutput = CryosiamInstancesOutputs.coordinates.name
    _doneWord = "segmented"
    MODEL_TASKS = ("instance",)

    def _defineParams(self, form: Any) -> None:
        defineGpuParams(form)
        form.addSection(label=Message.LABEL_INPUT)
        defineTomogramsParam(
            form,
            "Denoised tomograms",
            "The output of CryoSiam's _denoise tomograms_. The coordinates will refer to these "
            "tomograms.",
        )
        defineMasksParam(form)
        defineModelParams(form, self.getClassPackage().Plugin, self.MODEL_TASKS, "instance")
        defineForegroundParams(form)
        defineResultParams(form)
        form.addSection(label="Separation")
        defineSeparationParams(form)
        defineMapsParams(form)
        defineComputeParams(form)
        defineStreamingParams(form)
        form.addParallelSection(threads=THREADS, mpi=0)

    def _commands(self) -> list[str]:
        return ["instance_predict"]

    def _takesClasses(self) -> bool:
        return self.foregroundFrom.get() == FROM_CLASSES

    def _partners(self) -> dict[str, Any]:
        partners = super()._partners()
        return {**partners, "semantic mask": self.inputLabels} if self._takesClasses() else partners

    def _linkInputs(self, tsId: str) -> None:
        super()._linkInputs(tsId)
        if self._takesClasses():
            link_tomogram(self._feed.partners["semantic mask"][tsId], self._labelsFolder())
        earlier = self.earlierRun.get()
        if earlier is not None:
            _link_maps(Path(earlier._predictionFolder()), Path(self._predictionFolder()), tsId)

    def _readFiles(self, tsIds: list[str]) -> list[Path]:
        links = [Path(self._labelsFolder()) / f"{tsId}.mrc" for tsId in tsIds]
        links += [Path(self._predictionFolder()) / f"{tsId}_preds.h5" for tsId in tsIds]
        return super()._readFiles(tsIds) + [path for path in links if path.exists()]

    def _labelsFolder(self) -> str:
        return str(Path(self._getExtraPath("semantic")).absolute())

    def _configuration(self) -> dict[str, Any]:
        keys = super()._configuration()
        if "lamella mask" not in self._partners():
            keys.pop("mask_folder", None)
        return keys

    def _configurationKeys(self) -> dict[str, Any]:
        keys: dict[str, Any] = {
            "output_format": "mrc",
            "save_raw_predictions": bool(self.keepMaps.get()),
        }
        if self._takesClasses():
            Path(self._labelsFolder()).mkdir(parents=True, exist_ok=True)
            keys["semantic_predictions"] = self._labelsFolder()
            keys["semantic_foreground_labels"] = self._foreground()
        return keys

    def _networkSection(self) -> dict[str, Any]:
        return {
            "threshold_foreground": float(self.thresholdForeground.get()),
            "min_center_distance": float(self.minCenterDistance.get()),
            "max_center_distance": float(self.maxCenterDistance.get()),
            "distance_type": int(self.distanceType.get()),
            "boundary_bias": float(self.boundaryBias.get()),
            "postprocessing": bool(self.joinParts.get()),
        }

    def _classNames(self) -> dict[int, str]:
        """Names of the semantic masks' classes, as far as they tell."""
        labels = self.inputLabels.get()
        first = labels.getFirstItem() if labels is not None and labels.getSize() else None
        return label_table_of(first) if first is not None else {}

    def _foreground(self) -> list[int]:
        return parse_classes(self.foregroundClasses.get(), self._classNames())

    def _registerResult(self, tomogram: Any, first: EngineStatus, last: EngineStatus) -> None:
        rows = read_instances(self._resultOf(last, "particles", ".csv"))
        names: dict[int, str] = {}
        if self._takesClasses():
            chosen, known = self._foreground(), self._classNames()
            names = {class_id: class_name(class_id, known) for class_id in chosen}
        self._addInstances(tomogram, self._resultOf(last, "instances", ".mrc"), rows, names)

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.minCenterDistance.get() > self.maxCenterDistance.get():
            problems.append("*Depth of the centres*: 'from' must not be larger than 'to'.")
        earlier = self.earlierRun.get()
        if earlier is not None and not earlier.keepMaps.get():
            problems.append("*Use the maps of*: that run kept none. Choose another one, or none.")
        if not self._takesClasses():
            return problems
        if not self.inputLabels.hasValue():
            problems.append("*Semantic masks* cannot be empty where they are the foreground.")
        try:
            if not self._foreground():
                problems.append("*Classes*: say which classes of the semantic masks to separate.")
        except ValueError as error:
            problems.append(f"*Classes*: {error}")
        return problems

    def _emptyMessage(self) -> str:
        text = (
            "No instances were found in any tomogram. Most often the foreground threshold is too "
            "high, or the tomograms are not denoised."
        )
        return "\n".join([text, *self._engineReasons()])

    def _methodsSettings(self) -> str:
        joined = f", joined with a boundary bias of {self.boundaryBias.get():g}"
        return (
            f"with a foreground threshold of {self.thresholdForeground.get():g}, centres from "
            f"{self.minCenterDistance.get():g} to {self.maxCenterDistance.get():g} voxels below "
            f"the surface (distance type {self.distanceType.get()})"
            f"{joined if self.joinParts.get() else ''}, "
        )


def _link_maps(source: Path, target: Path, tsId: str) -> None:
    """Lend the maps of an earlier run, and the engine's record of what they were made from."""
    for name in (f"{tsId}_preds.h5", f"status/{_MAPS_RECORD}/{tsId}.json"):
        file, link = source / name, target / name
        if not file.is_file() or link.exists():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
