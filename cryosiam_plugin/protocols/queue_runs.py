"""Engine processes as jobs of Scipion's queue, over all lives of the protocol."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from cryosiam_plugin.engine_status import read_status
from cryosiam_plugin.launcher import EngineCommand
from cryosiam_plugin.protocols.engine_batch import INTERRUPTED, Stage
from cryosiam_plugin.protocols.engine_process import ProcessEnd, following, runEngine
from cryosiam_plugin.protocols.job_records import CANCELLED, ENDED, JobRecord, live_jobs
from cryosiam_plugin.protocols.queue_commands import QueueCommands
from cryosiam_plugin.protocols.queue_jobs import QUESTIONS, exit_code_of, is_orderly, why_ended
from cryosiam_plugin.protocols.queue_waiting import (
    await_end,
    end_jobs,
    is_there,
    submit,
)
from cryosiam_plugin.protocols.slurm_refusals import with_fields
from cryosiam_plugin.protocols.unwanted_jobs import UnwantedJobs
from cryosiam_plugin.slurm_core import SlurmError

#: Seconds that cancelled jobs are given to end, before others take their place.
END_SECONDS = 300.0
#: Seconds that a status may take to be seen on another computer.
STATUS_SECONDS = 30.0


class QueueRuns(UnwantedJobs):
    """Mixed into a protocol whose steps may be jobs of Scipion's queue."""

    #: What an earlier process has left in the queue, as far as it was not dealt with yet.
    _earlier: list[JobRecord] | None = None

    if TYPE_CHECKING:

        def _readFiles(self, tsIds: list[str]) -> list[Path]: ...

        def _engineOptions(self, command: str) -> list[str]: ...

    def _startInQueue(
        self, argv: list[str], tsIds: list[str], line: EngineCommand, record: Path, *, useGpu: bool
    ) -> ProcessEnd:
        """Run the engine in a job of its own, and wait for its end."""
        values = self._jobValues(record, useGpu=useGpu)
        computes = self._computesNow(argv, tsIds)
        job = JobRecord(record, argv[0], computes, logs=values["JOB_LOGS"])
        queue = QueueCommands(self.getHostConfig())

        def run_job(program: str, arguments: str) -> None:
            submit(queue, job, {**values, "JOB_COMMAND": f"{program} {arguments}"})
            self._awaitJob(queue, job)

        try:
            end = runEngine(line, run_job, record)
        except SlurmError as error:
            return ProcessEnd(None, job_end=with_fields(error, QUESTIONS))
        return self._ended(queue, job, end)

    def _jobValues(self, record: Path, *, useGpu: bool) -> dict[str, Any]:
        """What the template of the queue is filled in with."""
        values = {**self.getHostConfig().getQueuesDefault(), **self.getSubmitDict()}
        name = f"{values['JOB_NAME']}-{record.stem}"
        folder = Path(values["JOB_SCRIPT"]).absolute().parent
        folder.mkdir(parents=True, exist_ok=True)
        values["GPU_COUNT"] = values["GPU_COUNT"] if useGpu else 0
        # By a name that no other job has it is found, should its id be lost.
        values["JOB_NAME"] = f"{name}-{secrets.token_hex(4)}"
        values["JOB_SCRIPT"] = str(folder / f"{name}.job")
        values["JOB_LOGS"] = str(folder / name)
        return values

    def _awaitJob(self, queue: QueueCommands, job: JobRecord) -> None:
        """Wait for a job's end; meanwhile Scipion knows it, and can stop it."""
        with self._lock:
            self.appendJobId(job.job_id)
            self._store(self._jobId)
        await_end(queue, job, n_jobs=len(self.getJobIds()))
        job.note(ENDED)
        with self._lock:
            if job.job_id in self.getJobIds():
                self.removeJobId(job.job_id)
            self._store(self._jobId)

    def _ended(self, queue: QueueCommands, job: JobRecord, end: ProcessEnd) -> ProcessEnd:
        """How a job has ended, once all that its engine says of it is to be seen here."""
        logs = Path(job.logs)
        code = exit_code_of(logs)
        state = "" if is_orderly(code) else queue.ended_as(job.job_id)
        why = why_ended(logs, state)
        until = time.monotonic() + (0 if why else STATUS_SECONDS)
        known = [tsId for tsId in job.tsIds if job.computes[tsId]]
        while self._unsettled(job.command, known) and time.monotonic() < until:
            time.sleep(1)
        end = replace(end, exit_code=code, job_end=why)
        if code is None and not (why or state):
            return replace(end, job_end=f"Job {job.job_id} has left the queue, and no log.")
        # That one of many was asked to stop is no wish that all be stopped.
        return replace(end, job_end=end.reason) if end.was_asked_to_stop else end

    def _unsettled(self, command: str, tsIds: list[str]) -> list[str]:
        """The tomograms of which the engine does not say that it is through with them."""
        stage = Stage.of(command, self._predictionFolder())
        return [tsId for tsId in tsIds if not _is_settled(stage, tsId)]

    def _afterEarlierJobs(
        self, command: str, tsIds: list[str]
    ) -> tuple[list[str], ProcessEnd | None]:
        """Wait for what an earlier process of this protocol has left in the queue.

        A job that computes what is wanted is as good as a new one, and has waited already.

        Returns
        -------
        list of str
            The tomograms that are left to be computed.
        ProcessEnd or None
            How the last job has ended; None where there was none that was of use.

        Raises
        ------
        SlurmError
            When a job that is of no use does not end.
        """
        wanted = self._computesNow([command, *self._engineOptions(command)], tsIds)
        end, is_served = None, False
        for job in self._earlierJobs():
            if not job.overlaps(command, wanted):
                continue
            queue = QueueCommands(self.getHostConfig())
            serves = job.state != CANCELLED and job.serves(wanted)
            is_served = is_served or serves
            if not serves or not is_there(queue, job):
                end_jobs(queue, [job], END_SECONDS)
                continue
            what = ", ".join(job.tsIds) or "everything"
            self.info(f"{command}: job {job.job_id} of an earlier run goes on with {what}.")
            with following(job.path.with_suffix(".log")):
                self._awaitJob(queue, job)
            end = self._ended(queue, job, ProcessEnd(None))
        if not is_served or not tsIds:
            return tsIds, end
        return self._unsettled(command, tsIds), ProcessEnd(None)

    def _earlierJobs(self) -> list[JobRecord]:
        """The jobs of an earlier process that are not known to have ended."""
        with self._lock:
            if self._earlier is None:  # looked for before this process has jobs of its own
                self._earlier = live_jobs(self._recordsFolder())
            return [job for job in self._earlier if job.is_live]

    def _computesNow(self, argv: Sequence[str], tsIds: Sequence[str]) -> dict[str, str]:
        """What decides the results of a command, in short, by tsId; empty where it is not known."""
        if "--config_file" not in argv:
            return dict.fromkeys(tsIds or [""], "")
        words = [word for word in argv if word not in {"--filename", *(f"{t}.mrc" for t in tsIds)}]
        common = [*words, self._configFile().read_text(encoding="utf-8")]
        return {
            tsId: _digest([*common, *map(_identity, self._inputsOf([tsId] if tsId else []))])
            for tsId in tsIds or [""]
        }

    def _inputsOf(self, tsIds: list[str]) -> list[Path]:
        """What the engine reads, but for what it has made itself."""
        made = Path(self._predictionFolder())
        return [path for path in self._readFiles(tsIds) if made not in path.parents]


def _is_settled(stage: Stage, tsId: str) -> bool:
    status = read_status(stage.folder, tsId)
    if status is None:
        return False
    failed = status.is_failed and status.error.get("type") != INTERRUPTED
    return failed or stage.done(tsId) is not None


def _identity(path: Path) -> str:
    """What changes when a file becomes another one."""
    try:
        found = path.stat()
    except OSError:
        return f"{path} is not there"
    return f"{os.path.realpath(path)} {found.st_size} {found.st_mtime_ns}"


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:16]
