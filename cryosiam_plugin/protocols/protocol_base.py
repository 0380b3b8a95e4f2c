"""What all protocols that run the engine on tomograms have in common: their steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from pwem.protocols import EMProtocol
from pyworkflow.constants import NEW
from pyworkflow.object import String
from pyworkflow.protocol import ProtStreamingBase
from pyworkflow.protocol.constants import STEPS_PARALLEL

from cryosiam_plugin.convert import link_tomogram
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.array_runs import ArrayRuns
from cryosiam_plugin.protocols.batches import automatic_size, split
from cryosiam_plugin.protocols.engine_batch import EngineBatch, Stage
from cryosiam_plugin.protocols.engine_runs import EngineRuns
from cryosiam_plugin.protocols.feeding import Feed
from cryosiam_plugin.protocols.information import Information
from cryosiam_plugin.protocols.outputs import GrowingOutputs
from cryosiam_plugin.protocols.queue_runs import END_SECONDS
from cryosiam_plugin.protocols.run_configuration import RunConfiguration


class ProtCryosiamBase(
    GrowingOutputs,
    ArrayRuns,
    EngineRuns,
    RunConfiguration,
    Information,
    EMProtocol,
    ProtStreamingBase,
):
    """Base of the protocols that run CryoSiam's engine on a set of tomograms.

    One engine process takes several tomograms, or Slurm computes them in job arrays. The step that
    waits for them registers each result as soon as the engine's status file says that it is done.
    """

    _label: str | None = None
    _devStatus = NEW
    stepsExecutionMode = STEPS_PARALLEL
    #: Tasks of the models that the protocol can run.
    MODEL_TASKS: Sequence[str] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: JSON: why tomograms failed, by tsId.
        self.failures = String()
        #: JSON: what the engine told about itself, and its warnings by tsId.
        self.engineRecord = String()
        self._following: Feed | None = None

    # ----------------------------- what a protocol tells about itself ------------------------

    def _commands(self) -> list[str]:
        """The engine commands that a tomogram goes through, in order."""
        raise NotImplementedError

    def _registerResult(self, tomogram: Any, first: EngineStatus, last: EngineStatus) -> None:
        """Make outputs of what the engine made of one tomogram."""
        raise NotImplementedError

    def _partners(self) -> dict[str, Any]:
        """Pointers to the sets that must have an item of a tomogram too, by what the item is."""
        masks = getattr(self, "inputMasks", None)
        # A pointer to an output that is still to come is a mask too: never run without it.
        return {"lamella mask": masks} if masks is not None and masks.hasValue() else {}

    @property
    def _feed(self) -> Feed:
        """The inputs, as the step that follows them sees them."""
        if self._following is None:
            raise RuntimeError("The inputs are followed only while the protocol runs.")
        return self._following

    def _lacks(self, tsId: str, what: str) -> None:
        """Deal with a tomogram that never got all that belongs to it."""
        self._fail(tsId, f"There is no {what} of this tomogram (no item with its tsId).")

    def _linkInputs(self, tsId: str) -> None:
        """Put the inputs of a tomogram where the engine looks for them."""
        link_tomogram(self._feed.tomograms[tsId], self._inputFolder())
        if "lamella mask" in self._feed.partners:
            link_tomogram(self._feed.partners["lamella mask"][tsId], self._maskFolder())

    # ----------------------------- steps ------------------------------------------------------

    def stepsGeneratorStep(self) -> None:
        """Follow the inputs and make a step of each handful of tomograms, until they close."""
        self._beginAgain()
        self._following = Feed(self.inputTomograms, self._partners())
        steps: list[int] = []
        try:
            self._followInputs(steps)
        finally:
            # Nobody shall wait for more if this ends with an error.
            self._inbox.close()
        for tsId, what in self._feed.lacking().items():
            self._lacks(tsId, what)
        self._insertStep(self.closeOutputSetsStep, prerequisites=steps)

    def _beginAgain(self) -> None:
        """Deal with what an earlier run left: engines, jobs, failures, another configuration."""
        self._stopForgottenEngines()
        self._forgetFailures()
        is_same = self._earlierConfiguration() == self._configuration()
        # What the queue still computes is of use only if it is what is wanted now, and here.
        if not (is_same and self._usesArray()):
            self._endArrays(END_SECONDS)
        if not (is_same and self.useQueueForSteps()):
            self._endStepJobs(END_SECONDS)
        changed = self._writeConfiguration()
        for stage in self._stages() if changed else []:
            # Slurm may have finished tomograms that nobody has registered.
            for status in stage.folder.glob("*.json"):
                status.unlink()

    def _followInputs(self, steps: list[int]) -> None:
        """Insert steps for all tomograms, and append their numbers."""
        finished = self._tsIdsOf(self._primaryOutput)
        waiting: list[str] = []
        while True:
            isOpen = self._feed.update()
            waiting += [tsId for tsId in self._feed.take() if tsId not in finished]
            # While the engine is busy, newcomers gather, so that fewer processes load the model.
            slots = self._slots(following=isOpen)
            free = not isOpen or self._usesArray() or self._unfinished(steps) < slots
            if waiting and free:
                self._insertPredictions(waiting, slots, steps)
                waiting = []
            if not isOpen:
                break
            self._streamingSleepOnWait()

    def predictStep(self, tsIds: list[str]) -> None:
        """Run the engine on some tomograms; register each as soon as it is done."""
        ready = self._linked(tsIds)
        EngineBatch(self._stages(), self._launch, self._onDone, self._fail).run(ready)

    def _stages(self) -> list[Stage]:
        return [Stage.of(command, self._predictionFolder()) for command in self._commands()]

    def _linked(self, tsIds: list[str]) -> list[str]:
        """Put the inputs of tomograms where the engine looks for them; those that have them all."""
        ready = []
        for tsId in tsIds:
            try:
                self._linkInputs(tsId)
                ready.append(tsId)
            except (OSError, ValueError) as error:
                self._fail(tsId, str(error))
        return ready

    def closeOutputSetsStep(self) -> None:
        """Close the outputs; fail where there is nothing in them."""
        self._closeOutputSet()
        output = getattr(self, self._primaryOutput, None)
        if output is None or not output.getSize():
            raise ValueError("\n".join([self._emptyMessage(), *self._failureLines()]))

    def _onDone(self, tsId: str, first: EngineStatus, last: EngineStatus) -> None:
        self._recordStatus(tsId, first, last)
        self._registerResult(self._feed.tomograms[tsId], first, last)

    # ----------------------------- inserting steps --------------------------------------------

    def _insertPredictions(self, tsIds: list[str], slots: int, steps: list[int]) -> None:
        if self._usesArray():
            self._inbox.put(tsIds)
            # One step follows all arrays: two would ask Slurm twice.
            if not steps:
                steps.append(self._insertStep(self.predictOnSlurmStep))
            return
        size = self.tomogramsPerProcess.get() or automatic_size(
            len(tsIds), n_slots=slots, queue_for_steps=self.useQueueForSteps()
        )
        for batch in split(tsIds, size):
            steps.append(self._insertStep(self.predictStep, batch, needsGPU=self._needsGpuSlot()))

    def _insertStep(
        self,
        step: Any,
        *arguments: Any,
        prerequisites: Sequence[int] = (),
        needsGPU: bool = False,
    ) -> int:
        """Insert a step that already has its number when the executor first sees it.

        The executor books a GPU under the step's number, and a step that is inserted while
        others run has none before the next check of the steps.
        """
        index = self._insertFunctionStep(
            step, *arguments, prerequisites=list(prerequisites), needsGPU=needsGPU, wait=True
        )
        inserted = self._steps[index - 1]
        inserted.setObjId(index)
        inserted.status.set(None)
        return index

    def _unfinished(self, steps: Sequence[int]) -> int:
        return sum(1 for index in steps if not self._steps[index - 1].isFinished())

    def _tomogramOf(self, tsId: str) -> Any:
        return self._following.tomograms.get(tsId) if self._following else None

    def _sourcePointers(self) -> list[Any]:
        return [self.inputTomograms, *self._partners().values()]

    def _validate(self) -> list[str]:
        return self._problems()

    def _cleanExtraFiles(self) -> None:
        """Remove copies of inputs in other formats; links stay, so that a run can be repeated."""
        for folder in (self._inputFolder(), self._maskFolder()):
            for path in Path(folder).glob("*.mrc"):
                if not path.is_symlink():
                    path.unlink()

    def _resultOf(self, status: EngineStatus, kind: str, suffix: str = "") -> str:
        """The file that the engine made, with the path that Scipion keeps: inside the project.

        Raises
        ------
        ValueError
            When the engine names no such file, or it is not there any more.
        """
        path = status.output_of_kind(kind, suffix)
        if path is None:
            raise ValueError(f"The engine's {kind} file is not there.")
        return self._getExtraPath("predictions", path.name)
