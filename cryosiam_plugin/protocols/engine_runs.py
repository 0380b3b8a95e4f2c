"""How a protocol starts the engine: with which GPUs, where, and how many side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyworkflow.constants import QUEUE_FOR_JOBS
from pyworkflow.utils import Environ, magentaStr

from cryosiam_plugin.launcher import LaunchSettings, engine_command
from cryosiam_plugin.protocols.engine_process import (
    ProcessEnd,
    nextRecord,
    runEngine,
    stopForgottenEngines,
)
from cryosiam_plugin.protocols.form_parts import PRECISIONS, TILINGS
from cryosiam_plugin.protocols.information import counted
from cryosiam_plugin.protocols.queue_jobs import (
    explained_failure,
    gpus_of_step,
    is_yes,
    shares_of_job,
)
from cryosiam_plugin.protocols.queue_runs import END_SECONDS, QueueRuns
from cryosiam_plugin.slurm_core import SlurmError


class EngineRuns(QueueRuns):
    """Mixed into a protocol: everything about engine processes."""

    def _launch(self, command: str, tsIds: list[str]) -> ProcessEnd:
        """Run an engine command on tomograms, or, without any, on all results of the run.

        Returns when its process has ended.
        """
        if self.useQueueForSteps():
            try:
                tsIds, end = self._afterEarlierJobs(command, tsIds)
            except SlurmError as error:
                return ProcessEnd(None, job_end=str(error))
            if end is not None and not tsIds:
                return end
        argv = [command, *self._engineOptions(command)]
        argv += [word for tsId in tsIds for word in ("--filename", f"{tsId}.mrc")]
        use_gpu = self._runsNetwork(command) and self.usesGpu()
        return self._startEngine(argv, tsIds, useGpu=use_gpu)

    def _endEarlier(self, *arguments: Path) -> None:
        """End what an earlier process of this protocol has left, here and in a queue.

        Parameters
        ----------
        arguments
            Words of an engine's command line by which it is known.

        Raises
        ------
        SlurmError
            When a job does not end.
        """
        for argument in arguments:
            stopForgottenEngines(argument)
        self._endStepJobs(END_SECONDS)

    def _stopForgottenEngines(self) -> None:
        """End engines that an earlier process has left here; a queue's jobs may be of use."""
        stopForgottenEngines(self._configFile(), {job.job_id for job in self._earlierJobs()})

    def _engineOptions(self, command: str) -> list[str]:
        """The options of an engine command, all but the tomograms."""
        options = ["--config_file", str(self._configFile())]
        return options + (self._computeOptions() if self._runsNetwork(command) else [])

    def _startEngine(
        self, argv: list[str], tsIds: list[str], *, useGpu: bool = False
    ) -> ProcessEnd:
        """Run the engine with some arguments, the first is its command; wait for its end."""
        gpu_ids = self._gpuIds() if useGpu else None
        line = engine_command(
            self._launchSettings(),
            argv,
            work_folder=Path(self._getPath()).absolute(),
            inputs=self._readFiles(tsIds),
            use_gpu=useGpu,
            gpu_ids=gpu_ids,
            scheduler_owns_gpu=self.useQueue() and gpu_ids is None,
        )
        what = f"{counted(len(tsIds), 'tomogram')}: {', '.join(tsIds)}" if tsIds else "everything"
        self.info(magentaStr(f"{argv[0]}: {what}"))
        record = nextRecord(self._recordsFolder())
        if self.useQueueForSteps():
            return self._startInQueue(argv, tsIds, line, record, useGpu=useGpu)
        environment = Environ(line.environment)
        if self.useQueue():
            environment.update(shares_of_job(os.environ, gpu_ids))

        def run_job(program: str, arguments: str) -> None:
            self.runJob(program, arguments, env=environment, numberOfMpi=1, numberOfThreads=1)

        return runEngine(line, run_job, record)

    def _launchSettings(self) -> LaunchSettings:
        return self.getClassPackage().Plugin.getLaunchSettings()

    def _computeOptions(self) -> list[str]:
        # A GPU that was asked for and is not there is an error, not a run of a week on the CPU.
        device = "cuda" if self.usesGpu() else "cpu"
        return [
            "--device",
            device,
            "--precision",
            PRECISIONS[self.precision.get()],
            "--tiling",
            TILINGS[self.tiling.get()],
        ]

    def _readFiles(self, tsIds: list[str]) -> list[Path]:
        """Everything that the engine reads, for a container that sees only what it is shown."""
        folders = [self._inputFolder(), self._maskFolder(), self._predictionFolder()]
        links = [Path(folder) / f"{tsId}.mrc" for folder in folders for tsId in tsIds]
        model = self._model()
        return [path for path in links if path.exists()] + ([Path(model.path)] if model else [])

    def _gpuIds(self) -> str | None:
        """The GPUs that Scipion gave to this step, as CUDA_VISIBLE_DEVICES has them."""
        if self.useQueueForSteps():
            return None
        gpus = self._stepsExecutor.getGpuList()
        if self.useQueue():
            # Scipion counts those of the job, whose numbers are the queue's choice.
            return gpus_of_step(gpus, os.environ)
        return ",".join(str(gpu) for gpu in gpus) or None if gpus else None

    def _needsGpuSlot(self) -> bool:
        # Where every process is a job of its own, the queue has the GPUs, not Scipion's slots.
        return self.usesGpu() and not self.useQueueForSteps()

    def _runsNetwork(self, command: str) -> bool:
        """Whether a command takes the options about device and precision."""
        return command.endswith("_predict")

    def _usesArray(self) -> bool:
        """Whether Slurm's job arrays compute, and not this protocol's own processes."""
        return False

    def _computes(self) -> bool:
        """Whether a network is run at all."""
        return True

    def usesGpu(self) -> bool:
        """Whether the engine computes on a GPU."""
        return bool(super().usesGpu()) and self._computes()

    def _slots(self, *, following: bool = False) -> int:
        """How many engine processes can run side by side.

        Parameters
        ----------
        following
            Whether the step that looks for new tomograms goes on, which takes a thread.
        """
        workers = max(1, self.numberOfThreads.get() - (2 if following else 1))
        if self.useQueueForSteps():
            return workers
        return max(1, min(workers, len(self.getGpuList()))) if self.usesGpu() else 1

    def getSubmitDict(self) -> dict[str, Any]:
        """What the queue is asked for: GPUs only if one is used, and one for each process."""
        values = super().getSubmitDict()
        # Scipion knows a capital Y only.
        values[QUEUE_FOR_JOBS] = "Y" if is_yes(str(values[QUEUE_FOR_JOBS])) else "N"
        asked = len(self.getGpuList()) if self.usesGpu() and not self._usesArray() else 0
        if values[QUEUE_FOR_JOBS] == "Y":
            asked = min(asked, 1)
        values["GPU_COUNT"] = asked
        return values

    def setFailed(self, msg: str) -> None:
        """Note a failure; where the queue's job has gone, with what its log says."""
        super().setFailed(explained_failure(self, msg))
