"""One engine command of a protocol as job arrays on Slurm, over all lives of the protocol."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Sequence

from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.array_report import task_log, write_progress
from cryosiam_plugin.protocols.engine_batch import Stage
from cryosiam_plugin.slurm_core import (
    LOCK,
    Failure,
    Follower,
    Item,
    Journal,
    Poll,
    Progress,
    SlurmError,
    SlurmPrograms,
    SlurmRun,
    only_one,
    retry_failed,
)

#: What of a journal the form says, and may say otherwise later.
_OF_THE_FORM = ("engine", "options", "settings", "per_task", "retries")
#: Seconds that cancelled jobs are given to end.
CANCEL_SECONDS = 300.0


class ArrayStage:
    """The tomograms of one command; the run on Slurm that an earlier process began goes on.

    Parameters
    ----------
    stage
        The command.
    folder
        Where its runs are kept, each in a folder of its own.
    new_journal
        Says how tomograms are to be computed now.
    programs
        Slurm.
    """

    def __init__(
        self,
        stage: Stage,
        folder: Path,
        new_journal: Callable[[str, list[str]], Journal],
        programs: SlurmPrograms,
    ) -> None:
        self.command = stage.command
        self._stage = stage
        self._folder = folder
        self._new_journal = new_journal
        self._programs = programs
        self._held = ExitStack()
        self._run: SlurmRun | None = None
        self._follower: Follower | None = None
        self._given: dict[str, None] = {}
        self._gone: set[str] = set()
        self.failed: dict[str, Failure] = {}
        self.is_over = True

    def attach(self) -> None:
        """Take up the run of an earlier process, if something of it is still to come.

        Raises
        ------
        SlurmError
            When somebody else follows it, or one that was stopped does not end.
        """
        runs = runs_in(self._folder, self._programs)
        for run in runs:
            # Whoever stopped it did not wait, and perhaps Slurm did not answer.
            if run.is_cancelled and run.journal.active:
                end_runs([run])
        open_runs = [run for run in runs if _goes_on(run)]
        if not open_runs:
            return
        run = open_runs[-1]
        self._hold(run.folder)
        self._run = SlurmRun.open(run.folder, self._programs)  # what was read before may be old
        items = [
            i.stem for one in self._run.journal.submissions for i in self._run.plan_of(one).items
        ]
        self._given = dict.fromkeys(items)
        # What is still to be submitted is submitted as the form has it by now.
        self._renew(self._run.journal)
        retry_failed(self._run)
        self._run.save()
        self._follow(self._run)

    def release(self) -> None:
        """Let others follow the run."""
        self._held.close()

    def done(self, tsId: str) -> EngineStatus | None:
        """The status of a tomogram that has a result."""
        return self._stage.done(tsId)

    def has(self, tsId: str) -> bool:
        """Whether the tomogram is part of the run."""
        return tsId in self._given

    def has_lost(self, tsId: str) -> bool:
        """Whether the tomogram was done, but its result is not there."""
        return tsId in self._gone

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has stopped the run."""
        return self._run is not None and self._run.is_cancelled

    @property
    def interval(self) -> float:
        """Seconds to wait before the next look."""
        return self._follower.interval if self._follower else 0.0

    def add(self, tsIds: Sequence[str]) -> None:
        """Compute further tomograms, in arrays of their own.

        Raises
        ------
        SlurmError
            When what is asked of Slurm cannot be right.
        """
        self._given.update(dict.fromkeys(tsIds))
        items = [Item(tsId, f"{tsId}.mrc") for tsId in tsIds]
        if self._run is None:
            journal = self._new_journal(self.command, list(self._given))
            folder = _next_folder(self._folder)
            self._hold(folder)
            self._run = SlurmRun.create(folder, journal, items, self._programs)
            self._follow(self._run)
            return
        self._renew(self._run.journal)
        self._run.add(items)
        self.is_over = False

    def _renew(self, journal: Journal) -> None:
        """Have further arrays ask for what the form says, and see all tomograms of the run."""
        new = self._new_journal(self.command, list(self._given))
        for name in _OF_THE_FORM:
            setattr(journal, name, getattr(new, name))

    def poll(self) -> Poll:
        """Look once, if anything is to be expected.

        Raises
        ------
        SlurmError
            When nothing could be submitted, and never will.
        """
        if self._follower is None or self.is_over:
            return Poll()
        try:
            poll = self._follower.poll()
        except SlurmError:
            failed = self._follower.run.journal.failures
            over = Progress(n_tomograms=len(self._given), n_failed=len(failed), is_over=True)
            write_progress(self._follower.run.folder, over)
            raise
        self.is_over = poll.is_over
        self.failed.update(poll.failed)
        self._gone.update(tsId for tsId in poll.done if self.done(tsId) is None)
        write_progress(self._follower.run.folder, poll.progress)
        return poll

    def log_of(self, tsId: str) -> Path | None:
        """What the task wrote that a failed tomogram was last computed in."""
        failure = self.failed.get(tsId)
        return task_log(self._run, tsId, failure) if self._run and failure else None

    def _follow(self, run: SlurmRun) -> None:
        self._follower = Follower(run)
        self.is_over = False

    def _hold(self, folder: Path) -> None:
        if not self._held.enter_context(only_one(folder / LOCK)):
            raise SlurmError(
                f"{folder} is followed by another process already.",
                remedy="Stop this protocol, and Continue it when the other process has ended.",
            )


def runs_in(folder: Path, programs: SlurmPrograms) -> list[SlurmRun]:
    """List the runs of a command, the last one at the end; damaged ones are left out."""
    found = []
    for path in sorted(Path(folder).glob("run_*")):
        try:
            found.append(SlurmRun.open(path, programs))
        except (OSError, ValueError):
            continue
    return found


def active_runs(folder: Path, programs: SlurmPrograms) -> list[SlurmRun]:
    """List the runs of a command of which something may still be in Slurm."""
    return [run for run in runs_in(folder, programs) if run.journal.active]


def end_runs(runs: Sequence[SlurmRun], seconds: float = CANCEL_SECONDS) -> None:
    """Cancel runs, and wait until none of their tasks is left.

    Raises
    ------
    SlurmError
        When Slurm does not answer, or jobs go on all the same.
    """
    end = time.monotonic() + seconds
    for run in runs:
        run.cancel()
    for run in runs:
        follower = Follower(run, grace=1)
        while not follower.poll().is_over:
            if time.monotonic() > end:
                raise SlurmError(
                    f"The jobs of {run.folder} were cancelled, but they have not ended.",
                    remedy="Look with squeue, and try again when they are gone.",
                )
            time.sleep(1)


def _goes_on(run: SlurmRun) -> bool:
    waiting = any(failure.is_waiting for failure in run.journal.failures.values())
    return not run.is_cancelled and (bool(run.journal.active) or waiting)


def _next_folder(runs: Path) -> Path:
    for number in range(1, 100_000):
        folder = runs / f"run_{number:03d}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise OSError(f"{runs} is full of runs.")
