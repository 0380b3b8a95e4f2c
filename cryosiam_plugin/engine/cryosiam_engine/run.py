"""The loop over tomograms: read ahead, compute, write behind, survive a bad one, resume."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from cryosiam_engine.errors import BusyError, EngineError, Interrupted
from cryosiam_engine.files import noting
from cryosiam_engine.leftovers import Leftovers
from cryosiam_engine.locks import locked
from cryosiam_engine.progress import RunProgress
from cryosiam_engine.signals import interruptible
from cryosiam_engine.status import Status, read_status, write_status
from cryosiam_engine.tomogram_command import Loaded, Result, Saved, Tomogram, TomogramCommand

__all__ = ["RunReport", "Saved", "Tomogram", "TomogramCommand", "TomogramLoop"]

logger = logging.getLogger(__name__)


@dataclass
class RunReport:
    """What became of every tomogram of a run, by stem."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 when every tomogram has a result, else 1."""
        return 1 if self.failed else 0


@dataclass
class _Job:
    tomogram: Tomogram
    status: Status
    cleanup: ExitStack = field(default_factory=ExitStack)
    leftovers: Leftovers | None = None
    loaded: Any = None

    def noting(self) -> AbstractContextManager[None]:
        """Note what is half written meanwhile, for whoever comes after a kill."""
        return noting(self.leftovers.note if self.leftovers else None)


class TomogramLoop(Generic[Loaded, Result]):
    """Runs a command over tomograms.

    Parameters
    ----------
    command
        What is done to each tomogram.
    folder
        Where the status files lie, one ``<stem>.json`` each.
    overwrite
        Compute finished tomograms again.
    """

    def __init__(
        self, command: TomogramCommand[Loaded, Result], folder: Path, *, overwrite: bool = False
    ) -> None:
        self._command = command
        self._folder = folder
        self._overwrite = overwrite
        self._report = RunReport()
        self._current: _Job | None = None
        self._loading: Future[bool] | None = None

    def run(self, tomograms: Sequence[Tomogram]) -> RunReport:
        """Compute every tomogram that is not finished yet.

        Raises
        ------
        Interrupted
            After the current tomogram's status was set to failed; finished ones are kept.
        """
        jobs = [job for t in tomograms if (job := self._job(t))]
        with (
            interruptible(),
            RunProgress(len(jobs)) as progress,
            ThreadPoolExecutor(1, "input-output") as background,
        ):
            try:
                self._run_jobs(jobs, background, progress)
            except Interrupted as error:
                # A finished result is still written; the tomogram read ahead is not waited for.
                if self._loading:
                    self._loading.cancel()
                background.shutdown(wait=True)
                if self._current:
                    self._fail(self._current, error)
                raise
            finally:
                for job in jobs:
                    job.cleanup.close()
        return self._report

    def _job(self, tomogram: Tomogram) -> _Job | None:
        """A job for the tomogram, or None where its result stands already."""
        status = Status(
            command=self._command.name,
            tomogram=tomogram.stem,
            model_name=self._command.model_name,
            device=self._command.device,
            precision=self._command.precision,
        )
        try:
            status.determinants = self._command.determinants(tomogram)
        except (EngineError, OSError) as error:
            self._fail(_Job(tomogram, status), error)
            return None
        if not self._overwrite and self._is_done(status):
            logger.info("%s is finished already and still valid: skipped.", tomogram.stem)
            self._report.skipped.append(tomogram.stem)
            return None
        return _Job(tomogram, status)

    def _is_done(self, status: Status) -> bool:
        before = read_status(self._folder, status.tomogram)
        return before is not None and before.is_done_for(status.determinants)

    def _run_jobs(
        self, jobs: Sequence[_Job], background: ThreadPoolExecutor, progress: RunProgress
    ) -> None:
        saving: Future[None] | None = None
        for index, job in enumerate(jobs):
            loading = self._loading or background.submit(self._load, job)
            ready = loading.result()
            following = jobs[index + 1 : index + 2] if self._command.reads_ahead else ()
            self._loading = background.submit(self._load, *following) if following else None
            progress.start(job.tomogram.stem)
            if ready:
                result = self._compute(job, progress)
                if result is not None:
                    saving = background.submit(self._save, job, result)
                    del result
            progress.finish()
        if saving:
            saving.result()

    def _load(self, job: _Job) -> bool:
        lock = self._folder / f".{job.tomogram.stem}.lock"
        started = time.perf_counter()
        try:
            what = f"The result of {job.tomogram.stem}"
            job.leftovers = job.cleanup.enter_context(locked(lock, what=what))
            job.loaded = self._command.load(job.tomogram)
        except Exception as error:
            self._fail(job, error)
            return False
        job.status.seconds["read"] = round(time.perf_counter() - started, 3)
        return True

    def _compute(self, job: _Job, progress: RunProgress) -> Result | None:
        started = time.perf_counter()
        self._current = job
        try:
            with job.noting():
                write_status(self._folder, job.status)
                loaded, job.loaded = job.loaded, None
                result = self._command.compute(loaded, progress.tiles)
        except Exception as error:
            self._fail(job, error)
            return None
        finally:
            job.loaded = None
        self._current = None
        job.status.seconds["predict"] = round(time.perf_counter() - started, 3)
        return result

    def _save(self, job: _Job, result: Result) -> None:
        started = time.perf_counter()
        try:
            with job.noting():
                saved = self._command.save(result)
                job.status.seconds["write"] = round(time.perf_counter() - started, 3)
                job.status.state = "done"
                job.status.outputs = saved.outputs
                job.status.summary = saved.summary
                job.status.warnings = saved.warnings
                write_status(self._folder, job.status)
        except Exception as error:
            self._fail(job, error)
            return
        for warning in saved.warnings:
            logger.warning("%s: %s", job.tomogram.stem, warning)
        seconds = sum(job.status.seconds.values())
        logger.info("%s: done in %.1f s.", job.tomogram.stem, seconds)
        self._report.done.append(job.tomogram.stem)
        job.cleanup.close()

    def _fail(self, job: _Job, error: BaseException) -> None:
        """Record the failure; never let the bookkeeping hide the error itself."""
        job.status.fail(error)
        self._current = None
        self._report.failed[job.tomogram.stem] = str(error) or type(error).__name__
        expected = isinstance(error, EngineError | Interrupted)
        logger.error("%s: failed: %s", job.tomogram.stem, error, exc_info=not expected)
        if not isinstance(error, BusyError):  # the status belongs to the run that is writing it
            try:
                with job.noting():
                    write_status(self._folder, job.status)
            except EngineError as second:
                logger.error("%s: its status could not be written: %s", job.tomogram.stem, second)
        job.cleanup.close()
