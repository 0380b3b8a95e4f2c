"""Some tomograms through the engine: start it, follow it, hand on each result as it comes."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

from cryosiam_plugin.engine_status import EngineStatus, read_status, status_folder
from cryosiam_plugin.protocols.engine_process import ProcessEnd

logger = logging.getLogger(__name__)

#: Seconds between two looks at the status files.
POLL_SECONDS = 1.0

#: The engine's word for a tomogram that it was stopped at.
INTERRUPTED = "interrupted"


class EngineStopped(Exception):
    """The engine was asked to stop: what it did is kept, and the rest is for "Continue"."""


@dataclass(frozen=True)
class Stage:
    """One engine command of a protocol; a tomogram goes through all of them, in order.

    Attributes
    ----------
    command
        Such as ``semantic_predict``.
    folder
        Where the command's status files lie.
    """

    command: str
    folder: Path

    @classmethod
    def of(cls, command: str, prediction_folder: str) -> Stage:
        """The stage of a command that writes into a prediction folder."""
        return cls(command, status_folder(Path(prediction_folder), command))

    def done(self, tsId: str) -> EngineStatus | None:
        """The status of a tomogram that this stage has finished and whose files are there."""
        status = read_status(self.folder, tsId)
        whole = status is not None and status.is_done and all(o.is_there() for o in status.outputs)
        return status if whole else None

    def forget(self, tsId: str) -> None:
        """Remove a status file, so that an old one is never taken for a new one."""
        (self.folder / f"{tsId}.json").unlink(missing_ok=True)


class EngineBatch:
    """Runs the stages over tomograms; the status files alone decide what became of each.

    The first stage is one process for all tomograms. As soon as it has finished one, the other
    stages (which are short) run on it, beside the process.

    Parameters
    ----------
    stages
        The commands, in order.
    launch
        Runs a command on some tsIds and returns when its process has ended; from two threads.
    on_done
        Called once for each tomogram that has passed all stages, with the first stage's status
        and the last one's.
    on_failed
        Called once for each other tomogram, with the reason.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        launch: Callable[[str, list[str]], ProcessEnd],
        on_done: Callable[[str, EngineStatus, EngineStatus], None],
        on_failed: Callable[[str, str], None],
    ) -> None:
        self._stages = list(stages)
        self._launch = launch
        self._on_done = on_done
        self._on_failed = on_failed
        self._open: set[str] = set()
        self._stopped = False

    def run(self, tsIds: Sequence[str]) -> None:
        """Bring every tomogram to a result or to a reason why there is none.

        An engine that dies at one tomogram is started again for those that it had not begun.

        Raises
        ------
        EngineStopped
            When the engine was asked to stop, after all that it finished was handed on.
        """
        self._open = set(tsIds)
        self._forget_unfinished()
        self._harvest()
        while self._open and not self._stopped:
            asked = [tsId for tsId in tsIds if tsId in self._open]
            end = self._followed(asked)
            # An engine that a queue's job took with it says that it was asked to stop.
            self._stopped = (self._stopped or end.was_asked_to_stop) and not end.job_end
            if not self._stopped:
                self._settle(asked, end)
        if self._stopped:
            raise EngineStopped(
                "The engine was stopped before it had finished. Press Continue: finished "
                "tomograms are not computed again."
            )

    def _forget_unfinished(self) -> None:
        for tsId in self._open:
            for stage in self._stages:
                if stage.done(tsId) is None:
                    stage.forget(tsId)

    def _followed(self, asked: list[str]) -> ProcessEnd:
        """Run the first stage, and hand on results meanwhile."""
        ended = threading.Event()
        follower = threading.Thread(target=self._follow, args=(ended,), daemon=True)
        follower.start()
        try:
            return self._launch(self._stages[0].command, asked)
        finally:
            ended.set()
            follower.join()
            self._harvest()

    def _follow(self, ended: threading.Event) -> None:
        while not ended.wait(POLL_SECONDS):
            try:
                self._harvest()
            except Exception:
                # Tried again at the process's end, where it reaches the user.
                logger.exception("The results could not be collected; this is tried again.")

    def _harvest(self) -> None:
        """Hand on everything that the first stage has brought to an end by now."""
        ready: dict[str, EngineStatus] = {}
        for tsId in sorted(self._open):
            status = read_status(self._stages[0].folder, tsId)
            if status is not None and status.is_failed:
                self._failed(tsId, status)
            elif status is not None and self._stages[0].done(tsId):
                ready[tsId] = status
        last = self._later_stages(ready)
        for tsId, status in last.items():
            self._done(tsId, ready[tsId], status)

    def _later_stages(self, ready: dict[str, EngineStatus]) -> dict[str, EngineStatus]:
        """Run the other stages on `ready`; the last statuses of those that pass them all."""
        passing = dict(ready)
        for stage in self._stages[1:]:
            asked = [tsId for tsId in passing if stage.done(tsId) is None]
            end = self._launch(stage.command, asked) if asked else None
            for tsId in list(passing):
                status = stage.done(tsId)
                if status is not None:
                    passing[tsId] = status
                    continue
                del passing[tsId]
                self._fail_stage(stage, tsId, end)
        return passing

    def _fail_stage(self, stage: Stage, tsId: str, end: ProcessEnd | None) -> None:
        status = read_status(stage.folder, tsId)
        if status is not None and status.is_failed:
            self._failed(tsId, status)
        elif end is None or end.was_asked_to_stop:
            self._stopped = True
        else:
            self._give_up(tsId, f"{stage.command} gave no result: {end.reason}")

    def _done(self, tsId: str, first: EngineStatus, last: EngineStatus) -> None:
        self._open.discard(tsId)
        try:
            self._on_done(tsId, first, last)
        except Exception as error:
            logger.exception("%s: its result could not be registered.", tsId)
            self._on_failed(tsId, f"Its result could not be registered: {error}")

    def _failed(self, tsId: str, status: EngineStatus) -> None:
        if status.error.get("type") == INTERRUPTED:
            self._stopped = True
        else:
            self._give_up(tsId, status.error_text or "The engine gave no reason.")

    def _give_up(self, tsId: str, reason: str) -> None:
        self._open.discard(tsId)
        self._on_failed(tsId, reason)

    def _settle(self, asked: Sequence[str], end: ProcessEnd) -> None:
        """After the process: who was being computed failed; who was not begun gets a new one."""
        began = [tsId for tsId in asked if read_status(self._stages[0].folder, tsId)]
        for tsId in asked:
            if tsId not in self._open:
                continue
            if tsId in began:
                self._give_up(tsId, f"The engine ended while it was computing: {end.reason}")
            elif not began:
                self._give_up(tsId, f"The engine did not begin: {end.reason}")
