"""Tomograms through job arrays on Slurm: submit, follow, hand on each result as it comes."""

from __future__ import annotations

import logging
import threading
from typing import Callable, Sequence

from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols.array_report import explained
from cryosiam_plugin.protocols.array_stage import ArrayStage
from cryosiam_plugin.protocols.engine_batch import EngineStopped
from cryosiam_plugin.slurm_core import Progress, in_words

logger = logging.getLogger(__name__)

#: Seconds between two looks for new tomograms where nothing runs.
IDLE_SECONDS = 2.0


class Inbox:
    """Tomograms on their way from the step that finds them to the one that follows the arrays."""

    def __init__(self) -> None:
        self._tsIds: list[str] = []
        self._is_open = True
        self._changed = threading.Condition()

    def put(self, tsIds: Sequence[str]) -> None:
        """Hand over tomograms."""
        with self._changed:
            self._tsIds += tsIds
            self._changed.notify_all()

    def close(self) -> None:
        """Say that no more will come."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def take(self) -> tuple[list[str], bool]:
        """The tomograms since the last time, and whether more may come."""
        with self._changed:
            taken, self._tsIds = self._tsIds, []
            return taken, self._is_open

    def wait(self, seconds: float) -> None:
        """Wait so long, or until there is news."""
        with self._changed:
            if not self._tsIds:
                self._changed.wait(seconds)


class ArrayBatch:
    """Brings every tomogram through all stages, each of them in arrays of its own.

    New tomograms are submitted at once. Results of a stage gather while the next one is at work,
    so that there are few arrays of many tasks.

    Parameters
    ----------
    stages
        The commands, in order.
    inbox
        Where the tomograms come from.
    prepare
        Makes ready what the engine reads of some tomograms; gives those that can be computed.
    on_done
        Called once for each tomogram that has passed all stages, with the first stage's status
        and the last one's.
    on_failed
        Called once for each other tomogram, with the reason.
    """

    def __init__(
        self,
        stages: Sequence[ArrayStage],
        inbox: Inbox,
        prepare: Callable[[list[str]], list[str]],
        on_done: Callable[[str, EngineStatus, EngineStatus], None],
        on_failed: Callable[[str, str], None],
    ) -> None:
        self._stages = list(stages)
        self._inbox = inbox
        self._prepare = prepare
        self._on_done = on_done
        self._on_failed = on_failed
        self._at: dict[str, int] = {}
        self._gathered: list[list[str]] = [[] for _ in self._stages]
        self._first: dict[str, EngineStatus] = {}
        self._said = [""] * len(self._stages)

    def run(self) -> None:
        """Bring every tomogram to a result or to a reason why there is none.

        Raises
        ------
        EngineStopped
            When the run was cancelled, after all that was finished has been handed on.
        SlurmError
            When nothing could be submitted, and never will.
        """
        try:
            for stage in self._stages:
                stage.attach()
            while self._goes_on():
                busy = [stage.interval for stage in self._stages if not stage.is_over]
                self._inbox.wait(min(busy, default=IDLE_SECONDS))
            for tsId in list(self._at):
                self._give_up(tsId, "Slurm has ended, and nothing says what became of it.")
        finally:
            for stage in self._stages:
                stage.release()

    def _goes_on(self) -> bool:
        """Do all that can be done now; False when nothing is to be expected any more."""
        new, is_open = self._inbox.take()
        for tsId in self._prepare(new) if new else []:
            self._at[tsId] = 0
            self._move(tsId)
        self._submit()
        for index, stage in enumerate(self._stages):
            poll = stage.poll()
            for tsId in (*poll.done, *poll.failed):
                if self._at.get(tsId) == index:
                    self._move(tsId)
            self._tell(index, poll.progress)
        if any(stage.is_cancelled for stage in self._stages):
            raise EngineStopped(
                "The job array was cancelled. Press Continue: finished tomograms are not "
                "computed again."
            )
        gathered = any(self._gathered)
        return is_open or gathered or not all(stage.is_over for stage in self._stages)

    def _submit(self) -> None:
        for index, stage in enumerate(self._stages):
            if self._gathered[index] and (index == 0 or stage.is_over):
                tsIds, self._gathered[index] = self._gathered[index], []
                stage.add(tsIds)

    def _move(self, tsId: str) -> None:
        """Bring a tomogram as far as it is by now."""
        while True:
            index = self._at[tsId]
            stage = self._stages[index]
            status = stage.done(tsId)
            if status is None:
                break
            self._first.setdefault(tsId, status)
            self._at[tsId] = index + 1
            if index + 1 == len(self._stages):
                self._done(tsId, status)
                return
        if not stage.has(tsId):
            self._gathered[index].append(tsId)
        elif tsId in stage.failed:
            self._give_up(tsId, explained(stage.failed[tsId], stage.log_of(tsId)))
        elif stage.has_lost(tsId):
            self._give_up(tsId, f"The result of {stage.command} is not there any more.")

    def _done(self, tsId: str, last: EngineStatus) -> None:
        del self._at[tsId]
        try:
            self._on_done(tsId, self._first.pop(tsId), last)
        except Exception as error:
            logger.exception("%s: its result could not be registered.", tsId)
            self._on_failed(tsId, f"Its result could not be registered: {error}")

    def _give_up(self, tsId: str, reason: str) -> None:
        del self._at[tsId]
        self._on_failed(tsId, reason)

    def _tell(self, index: int, progress: Progress) -> None:
        """Say how far a stage is, when that has changed."""
        counts = f"{progress.n_running} {progress.n_done} {progress.n_failed} {progress.problem}"
        if progress.n_tomograms and counts != self._said[index]:
            self._said[index] = counts
            logger.info("%s: %s", self._stages[index].command, in_words(progress))
