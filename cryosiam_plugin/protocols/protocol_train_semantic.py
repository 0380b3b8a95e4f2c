"""Train semantic segmentation."""

from __future__ import annotations

import json
import os
import re
import shutil
from enum import Enum
from pathlib import Path
from typing import Any

from pwem.protocols import EMProtocol
from pyworkflow.constants import NEW
from pyworkflow.object import String
from pyworkflow.protocol.constants import STEPS_SERIAL

from cryosiam_plugin.convert import link_tomogram
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.objects import CryosiamModel
from cryosiam_plugin.protocols.checkpoint_summary import sha256_of
from cryosiam_plugin.protocols.class_lists import class_name
from cryosiam_plugin.protocols.model_choice import OBJECT
from cryosiam_plugin.protocols.training_check import (
    Report,
    TrainingCheckError,
    empty_message,
    tomograms_line,
)
from cryosiam_plugin.protocols.training_course import read_course
from cryosiam_plugin.protocols.training_form import (
    MODEL_TASKS,
    defineInputParams,
    defineTrainingGpuParams,
    defineTrainingParams,
)
from cryosiam_plugin.protocols.training_inputs import (
    INPUTS_FILE,
    check_grey_values,
    listed,
    note_inputs,
    pairs_of,
)
from cryosiam_plugin.protocols.training_method_form import (
    defineAugmentationParams,
    defineMethodParams,
    definePatchParams,
)
from cryosiam_plugin.protocols.training_progress import duration, training_status
from cryosiam_plugin.protocols.training_report import CURVES, TrainingReport
from cryosiam_plugin.protocols.training_runs import BEST_MODEL, TrainingRuns
from cryosiam_plugin.protocols.training_settings import TrainingSettings

#: Classes that a model without a name of its own is called after.
_NAMED_CLASSES = 3


class CryosiamTrainSemanticOutputs(Enum):
    """The result."""

    model = CryosiamModel


class ProtCryosiamTrainSemantic(TrainingReport, TrainingSettings, TrainingRuns, EMProtocol):
    """Trains a model of your own from tomograms with masks.

    The model learns to give every voxel the class that it has in the masks. Use it in _semantic
    segmentation_, in _particle identification_ or, with one class, in _lamella mask_: choose there
    _Model from: model of this project_.

    Masks come from _masks from coordinates_, from another segmentation, or from a drawing program.
    First the engine looks at all masks and learns from one batch, so that problems are known before
    hours are spent. While the training runs, _Analyze Results_ shows the learning curves, with a
    button to stop now and keep the best model; a file named STOP in the folder _training_ of the
    run does the same. A run that was stopped or has failed goes on from its last whole epoch with
    _Continue_.
    """

    _label = "train semantic segmentation"
    _devStatus = NEW
    _possibleOutputs = CryosiamTrainSemanticOutputs
    stepsExecutionMode = STEPS_SERIAL
    MODEL_TASKS = MODEL_TASKS

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: JSON: what was found out before and after the training.
        self.trainingRecord = String()

    def _defineParams(self, form: Any) -> None:
        defineTrainingGpuParams(form)
        defineInputParams(form, self.getClassPackage().Plugin)
        defineTrainingParams(form)
        defineMethodParams(form)
        definePatchParams(form)
        defineAugmentationParams(form)
        form.addParallelSection(threads=1, mpi=0)

    # ----------------------------- steps ------------------------------------------------------

    def _insertAllSteps(self) -> None:
        # With what they depend on: after a change Continue runs them again, or says why not.
        inputs = [self.inputTomograms.get().getObjId(), self.inputMasks.get().getObjId()]
        asked = json.dumps([inputs, self._asked()], sort_keys=True)
        self._insertFunctionStep(self.linkStep, asked, needsGPU=False)
        self._insertFunctionStep(self.checkStep, asked, needsGPU=True)
        self._insertFunctionStep(self.trainStep, asked, needsGPU=True)
        self._insertFunctionStep(self.createOutputStep, asked, needsGPU=False)

    def _asked(self) -> dict[str, Any]:
        """The settings, without the places of files: a project may be moved."""
        configuration = self._configuration()
        names = ("parameters", "hyper_parameters", "backbone", "seed")
        settings = {name: configuration.get(name) for name in names}
        return {**settings, **self._validationKeys(), "classes": self._classNames()}

    def linkStep(self, asked: str) -> None:
        """Put tomograms and masks where the engine finds them, if they fit each other."""
        self._endEarlier(self._configFile())
        pairs, left_out = pairs_of(self.inputTomograms.get(), self.inputMasks.get())
        note_inputs(Path(self._getExtraPath(INPUTS_FILE)), pairs, has_begun=self._hasBegun())
        self._writeTrainingConfiguration()
        for folder in (self._inputFolder(), self._maskFolder()):
            # Of other tomograms, before a change.
            shutil.rmtree(folder, ignore_errors=True)
        for pair in pairs:
            path = link_tomogram(pair.tomogram, self._inputFolder())
            check_grey_values(path, pair.tomogram.getTsId())
            link_tomogram(pair.mask, self._maskFolder())
        notes = []
        if left_out:
            notes = [f"Tomograms without a mask, which were left out: {listed(left_out)}."]
        self._remember(left_out=notes, start=self._startText())

    def checkStep(self, asked: str) -> None:
        """Let the engine look at the masks and learn from one batch."""
        names = self._classNames()
        report = self._look(names)
        if report.empty and not self.allowEmptyClasses.get():
            raise TrainingCheckError(empty_message(report.empty, names))
        self._rememberReport(report, names)

    def trainStep(self, asked: str) -> None:
        """Train, from the last whole epoch if there is one."""
        self._stopForgottenEngines()
        self._writeTrainingConfiguration()
        try:
            self._train()
        finally:
            self._drawCurves()

    def createOutputStep(self, asked: str) -> None:
        """Make the model known to the project."""
        status = training_status(Path(self._predictionFolder()))
        best = status.output_of_kind(BEST_MODEL) if status is not None else None
        if status is None or best is None:
            raise FileNotFoundError("The trained model is not there any more. Use Restart.")
        names = self._classNames()
        model = self._modelOf(best, names)
        self._defineOutputs(**{CryosiamTrainSemanticOutputs.model.name: model})
        sources = [self.inputTomograms, self.inputMasks]
        if self._model() is not None and self.modelSource.get() == OBJECT:
            sources.append(self.modelObject)
        for source in sources:
            self._defineSourceRelation(source, model)
        self._rememberResult(status, model)

    # ----------------------------- the output -------------------------------------------------

    def _modelOf(self, best: Path, names: dict[int, str]) -> CryosiamModel:
        name = self._modelName(names)
        file = self._getExtraPath(f"{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}.ckpt")
        Path(file).unlink(missing_ok=True)
        try:
            # Named after what it finds, without a second copy on the disk.
            os.link(best, file)
        except OSError:
            shutil.copy2(best, file)
        model = CryosiamModel(path=file, task="semantic")
        model.setDisplayName(name)
        model.setNClasses(len(names))
        model.setClassNames(names)
        model.setSamplingRate(self.inputTomograms.get().getSamplingRate())
        model.setSha256(sha256_of(file))
        return model

    def _modelName(self, names: dict[int, str]) -> str:
        own = (self.modelName.get() or "").strip()
        if own:
            return own
        first = [class_name(label, names) for label in sorted(names)[:_NAMED_CLASSES]]
        more = " and others" if len(names) > _NAMED_CLASSES else ""
        return f"{', '.join(first)}{more} (run {self.getObjId()})"

    def _drawCurves(self) -> None:
        # Here, not above: the viewers import the protocols.
        from cryosiam_plugin.viewers.training_curves import save_curves

        course = read_course(Path(self._predictionFolder()))
        if course.steps:
            save_curves(course, self._classNames(), Path(self._getExtraPath(CURVES)))

    # ----------------------------- the record -------------------------------------------------

    def _rememberReport(self, report: Report, names: dict[int, str]) -> None:
        voxels = ", ".join(f"{name} {report.voxels.get(c, 0)}" for c, name in sorted(names.items()))
        setting = [
            tomograms_line(report),
            f"Voxels of the classes: {voxels}.",
            f"Estimated from one batch: at most {duration(3600 * report.hours)}, "
            f"{report.memory_gib:.1f} GiB of memory.",
        ]
        alone = report.training == report.validation
        self._remember(
            setting=setting,
            notes=[*self._record().get("left_out", []), *report.notes],
            n_training=len(report.training),
            n_validation="a part of it" if alone else len(report.validation),
        )

    def _rememberResult(self, status: EngineStatus, model: CryosiamModel) -> None:
        said = status.summary
        best = read_course(Path(self._predictionFolder())).best
        result = {
            "epochs": said.get("epochs", 0),
            "max_epochs": said.get("max_epochs", 0),
            "stopped": bool(said.get("stopped_by")),
            "best_epoch": said.get("best_epoch") or said.get("epochs", 0),
            "loss": said.get("best_val_loss"),
            "dice": best.dice if best is not None else {},
        }
        self._remember(
            result=result,
            model=model.getDisplayName(),
            sha256=model.getSha256(),
            classes=model.getClassNames(),
            device=status.device,
            version=status.engine_version,
        )
