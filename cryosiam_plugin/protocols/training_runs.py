"""The engine's two looks at a training: the dry run, and the training itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

from pyworkflow.constants import QUEUE_FOR_JOBS

from cryosiam_plugin.engine_status import EngineStatus, status_folder
from cryosiam_plugin.protocols.engine_batch import INTERRUPTED, EngineStopped
from cryosiam_plugin.protocols.engine_process import ProcessEnd
from cryosiam_plugin.protocols.engine_runs import EngineRuns
from cryosiam_plugin.protocols.form_parts import PRECISIONS
from cryosiam_plugin.protocols.training_check import (
    REPORT_FILE,
    Report,
    TrainingCheckError,
    last_message,
    read_report,
)
from cryosiam_plugin.protocols.training_progress import (
    COMMAND,
    STOP_FILE,
    TRAINING,
    training_status,
)

#: Of the status file's outputs: the checkpoint to be used.
BEST_MODEL = "model"


class TrainingFailed(RuntimeError):
    """The training ended without a model; the message is the engine's own."""


class TrainingRuns(EngineRuns):
    """Mixed into the training protocol: it always trains on all tomograms, in one process."""

    #: Whether the engine shall only look.
    _onlyLook = False

    if TYPE_CHECKING:

        def _writeTrainingConfiguration(self) -> None: ...

    def _look(self, names: Mapping[int, str]) -> Report:
        """Let the engine learn from one batch, and read what it says.

        Raises
        ------
        TrainingCheckError
            When the training could not begin, with the engine's reason.
        EngineStopped
            When the engine was asked to stop.
        """
        folder = Path(self._predictionFolder())
        (folder / REPORT_FILE).unlink(missing_ok=True)
        self._onlyLook = True
        try:
            end = self._launch(COMMAND, [])
        finally:
            self._onlyLook = False
        if (folder / REPORT_FILE).is_file():
            return read_report(folder, names)
        if end.was_asked_to_stop:
            raise EngineStopped("The engine was stopped before the training began. Press Continue.")
        raise TrainingCheckError(last_message(self._lastLog()) or end.reason)

    def _train(self) -> EngineStatus:
        """Train to the end, from the last whole epoch if there is one.

        Raises
        ------
        TrainingFailed
            When there is no model, with the engine's reason.
        EngineStopped
            When the engine was asked to stop by other means than the file for it: by a queue, or
            because the computer was shut down. What it learned is kept for "Continue".
        """
        folder = Path(self._predictionFolder())
        # So that an old status is never taken for a new one.
        (status_folder(folder, COMMAND) / f"{TRAINING}.json").unlink(missing_ok=True)
        end = self._launch(COMMAND, [])
        status = training_status(folder)
        if status is None or not status.is_done:
            raise self._unfinished(status, end)
        if _by_signal(status):
            raise EngineStopped(
                f"The training was stopped ({status.summary['stopped_by']}). Press Continue to go "
                "on from the last whole epoch."
            )
        if status.output_of_kind(BEST_MODEL) is None:
            raise TrainingFailed("The trained model is not there any more. Press Continue.")
        return status

    def _unfinished(self, status: EngineStatus | None, end: ProcessEnd) -> Exception:
        failed = status if status is not None and status.is_failed else None
        interrupted = failed is not None and failed.error.get("type") == INTERRUPTED
        if end.was_asked_to_stop or interrupted:
            return EngineStopped("The training was stopped. Press Continue to go on.")
        reason = (failed.error_text if failed else "") or last_message(self._lastLog())
        return TrainingFailed(
            f"{reason or end.reason} What was learned up to the last whole epoch is kept: when the "
            "cause is gone, press Continue."
        )

    def _lastLog(self) -> Path:
        logs = Path(self._getExtraPath("engine")).glob("engine_*.log")
        return max(logs, key=lambda log: int(log.stem.split("_")[1]), default=Path("none"))

    def _runsNetwork(self, command: str) -> bool:
        return True

    def _computeOptions(self) -> list[str]:
        # A GPU that was asked for and is not there is an error, not a training of a month.
        options = ["--device", "cuda" if self.usesGpu() else "cpu"]
        options += ["--precision", PRECISIONS[self.precision.get()]]
        return [*options, "--dry_run"] if self._onlyLook else options

    def _readFiles(self, tsIds: list[str]) -> list[Path]:
        folders = (self._inputFolder(), self._maskFolder())
        links = [path for folder in folders for path in sorted(Path(folder).glob("*.mrc"))]
        model = self._model()
        return links + ([Path(model.path)] if model else [])

    def getSubmitDict(self) -> dict[str, Any]:
        """What the queue is asked for: all GPUs, also where each command is a job."""
        values = super().getSubmitDict()
        if self.usesGpu() and values.get(QUEUE_FOR_JOBS) == "Y":
            values["GPU_COUNT"] = len(self.getGpuList())
        return values


def _by_signal(status: EngineStatus) -> bool:
    """Whether it was neither its own end nor the user's wish to keep the best model."""
    stopped_by = str(status.summary.get("stopped_by") or "")
    return bool(stopped_by) and not stopped_by.endswith(f"/{STOP_FILE}")
