"""What the training protocol says to its user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryosiam_plugin.protocols.class_lists import class_name
from cryosiam_plugin.protocols.information import (
    LISTED,
    REFERENCE,
    VOXEL_SIZE_SHARE,
    ClassLabel,
    counted,
)
from cryosiam_plugin.protocols.model_choice import modelProblem
from cryosiam_plugin.protocols.training_form import FULL, MODEL_TASKS, NEW, TRAINED
from cryosiam_plugin.protocols.training_inputs import (
    VOXEL_SIZE_SHARE as SAME_VOXEL_SIZE,
)
from cryosiam_plugin.protocols.training_inputs import (
    no_pairs_message,
)
from cryosiam_plugin.protocols.training_progress import (
    BROKEN,
    RUNNING,
    Progress,
    duration,
    read_progress,
)

#: Every network halves its patches so often.
_PATCH_MULTIPLE = 16
CURVES = "learning_curves.png"


class TrainingReport(ClassLabel):
    """Mixed into the training protocol; it has a String attribute `trainingRecord`."""

    if TYPE_CHECKING:

        def _classNames(self) -> dict[int, str]: ...

        def _validationNames(self) -> list[str]: ...

    def _record(self) -> dict[str, Any]:
        text = self.trainingRecord.get()
        return json.loads(text) if text else {}

    def _remember(self, **values: Any) -> None:
        record = {**self._record(), **values}
        self.trainingRecord.set(json.dumps(record, ensure_ascii=False))
        self._store(self.trainingRecord)

    # ----------------------------- before it runs ---------------------------------------------

    def _validate(self) -> list[str]:
        problems = []
        model = self._model()
        if model is not None:
            problems.append(modelProblem(model, MODEL_TASKS))
        if self.patchSize.get() % _PATCH_MULTIPLE:
            problems.append(f"*Patch size* must be a multiple of {_PATCH_MULTIPLE}.")
        tomograms, masks = self.inputTomograms.get(), self.inputMasks.get()
        if tomograms is not None and masks is not None:
            problems += self._inputProblems(tomograms, masks)
        return [problem for problem in problems if problem]

    def _inputProblems(self, tomograms: Any, masks: Any) -> list[str]:
        if tomograms.isStreamOpen() or masks.isStreamOpen():
            return [
                "Tomograms or masks are still coming in: wait for the protocols that make them."
            ]
        mine, theirs = tomograms.getSamplingRate(), masks.getSamplingRate()
        if abs(mine - theirs) > SAME_VOXEL_SIZE * mine:
            return [
                f"The tomograms have a voxel size of {mine:.2f} Å, but the masks {theirs:.2f} Å. "
                "Give masks that were made from these tomograms."
            ]
        tsIds = set(tomograms.getTSIds()) & set(masks.getTSIds())
        if not tsIds:
            return [no_pairs_message(tomograms.getTSIds(), masks.getTSIds())]
        return self._validationProblems(tsIds) + self._classProblems()

    def _validationProblems(self, tsIds: set[str]) -> list[str]:
        chosen = self._validationNames()
        unknown = sorted(set(chosen) - tsIds)
        if unknown:
            return [
                f"*Tomograms for validation*: there is no tomogram with a mask called "
                f"{', '.join(unknown)}."
            ]
        if chosen and set(chosen) == tsIds:
            return ["*Tomograms for validation*: none is left to learn from."]
        return []

    def _classProblems(self) -> list[str]:
        names = self._classNames()
        if not names:
            return [
                "The masks do not say what their classes are called. Give *Names of the classes*, "
                "in the order of their numbers, such as 'membrane, ribosome'."
            ]
        missing = sorted(set(range(1, max(names) + 1)) - set(names))
        if missing:
            return [
                "The numbers of the classes must go from 1 on without gaps, but there is no class "
                f"{', '.join(map(str, missing))} (classes: {_written(names)})."
            ]
        return []

    def _warnings(self) -> list[str]:
        warnings = []
        if not self.usesGpu() and (
            self.startFrom.get() == TRAINED or self.networkSize.get() == FULL
        ):
            warnings.append(
                "Without a GPU a training of a network of full size takes days. Use a GPU, or "
                "start from a new, small network."
            )
        model, tomograms = self._model(), self.inputTomograms.get()
        if model is not None and tomograms is not None and model.voxel_size:
            mine = tomograms.getSamplingRate()
            if abs(mine - model.voxel_size) > VOXEL_SIZE_SHARE * model.voxel_size:
                warnings.append(
                    f"The tomograms have a voxel size of {mine:.2f} Å, but the model {model.name} "
                    f"was trained at {model.voxel_size:.2f} Å: it has more to learn anew."
                )
        return warnings

    # ----------------------------- while and after it runs ------------------------------------

    def _summary(self) -> list[str]:
        record = self._record()
        progress = read_progress(Path(self._predictionFolder()))
        if not record:
            return ["Not trained yet."]
        lines = list(record.get("setting", []))
        if "model" in record:
            lines += self._resultLines(record)
        elif progress.max_epochs:
            lines += _progress_lines(progress)
        if Path(self._getExtraPath(CURVES)).is_file():
            lines.append(f"[[{self._getExtraPath(CURVES)}][Learning curves]]")
        return lines + [f"*Note*: {note}" for note in record.get("notes", [])[:LISTED]]

    def _resultLines(self, record: dict[str, Any]) -> list[str]:
        result = record["result"]
        lines = [f"Model *{record['model']}*: {_end_of(result)}"]
        loss, dice = result.get("loss"), result.get("dice", {})
        if loss is not None:
            lines.append(f"Best epoch: {result['best_epoch']}, validation loss {loss:.4g}.")
        if dice:
            names = {int(c): name for c, name in record["classes"].items()}
            found = [
                f"{class_name(int(c), names)} {value:.3f}"
                for c, value in sorted(dice.items(), key=lambda item: int(item[0]))
                if int(c) > 0
            ]
            lines.append(f"Dice of the validation (1 is perfect): {', '.join(found) or 'none'}.")
        return [*lines, f"SHA-256: {record['sha256']}"]

    def _methods(self) -> list[str]:
        record = self._record()
        if "model" not in record:
            return []
        result, names = record["result"], {int(c): n for c, n in record["classes"].items()}
        start = record["start"]
        judged = ""
        if result.get("loss") is not None:
            judged = f" (validation loss {result['loss']:.4g})"
        return [
            f"A network for semantic segmentation ({_written(names)}) was trained by CryoSiam "
            f"[{REFERENCE}] on {counted(record['n_training'], 'tomogram')} ("
            f"{record['n_validation']} for validation), starting from {start}, with patches of "
            f"{self.patchSize.get()} voxels edge length, a batch size of {self.batchSize.get()}, a "
            f"learning rate of {self.learningRate.get():g} and seed {self.seed.get()}, for "
            f"{counted(result['epochs'], 'epoch')}; the model of epoch {result['best_epoch']}"
            f"{judged} was kept (SHA-256 {record['sha256']}), using cryosiam-engine "
            f"{record.get('version', '')}."
        ]

    def _citations(self) -> list[str]:
        return [REFERENCE]

    def _startText(self) -> str:
        """What the training begins with, for the methods."""
        model = self._model()
        if model is not None:
            return f"the model {model.name}"
        size = "full-size" if self.networkSize.get() == FULL else "small"
        return f"a new, {size} network" if self.startFrom.get() == NEW else "a new network"


def _progress_lines(progress: Progress) -> list[str]:
    lines = [f"Epoch {min(progress.epochs + 1, progress.max_epochs)} of {progress.max_epochs}."]
    if progress.state == RUNNING:
        lines = [f"{lines[0]} About {duration(progress.seconds_left)} left."]
    elif progress.state == BROKEN:
        lines.append("*Broken off*: press Continue to go on from the last whole epoch.")
    if progress.best_loss is not None:
        lines.append(
            f"Best so far: epoch {progress.best_epoch}, validation loss {progress.best_loss:.4g}."
        )
    return lines


def _end_of(result: dict[str, Any]) -> str:
    epochs = counted(result["epochs"], "epoch")
    if result.get("stopped"):
        return f"stopped on request after {epochs}, the best model was kept."
    if result["epochs"] < result["max_epochs"]:
        return f"no improvement any more, ended after {epochs} of {result['max_epochs']}."
    return f"trained for {epochs}."


def _written(names: dict[int, str]) -> str:
    return ", ".join(f"{label} {name}" for label, name in sorted(names.items()))
