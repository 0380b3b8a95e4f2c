"""Follow a run: one look at the queue for all its arrays, the status files for the rest."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Callable

from .errors import SlurmError
from .journal import PLANNED, SETTLED, SUBMITTED, SUBMITTING, Failure, Submission
from .progress import Progress
from .retries import plan_retries
from .run import SlurmRun
from .settling import ArrayWatch
from .squeue import QueueView, why_waiting
from .submitting import Offers, end_twins, recover

logger = logging.getLogger(__name__)

#: Seconds that a file may take to be seen on another computer of the cluster.
GRACE = 30.0
#: Seconds between two looks at the queue: at first, and at most.
FIRST_INTERVAL, LONGEST_INTERVAL = 2.0, 30.0


def poll_interval(seconds: float) -> float:
    """How long to wait before the next look, when a run has been followed for `seconds`.

    A tenth of that time: short jobs are seen soon, and long ones cost the controller one question
    every half minute, however many they are.
    """
    return min(LONGEST_INTERVAL, max(FIRST_INTERVAL, seconds / 10))


@dataclass
class Poll:
    """What one look brought.

    Attributes
    ----------
    done
        Stems of tomograms that have a result since the last look.
    failed
        Tomograms that were finally given up since the last look.
    progress
        How far the run is.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be expected any more."""
        return self.progress.is_over


class Follower:
    """Follows a run, settles its tomograms and tries again what may go well then.

    Parameters
    ----------
    run
        The run; nobody else may follow it, unless it is read only.
    grace
        Seconds to wait for a status file after its task has ended; whoever only looks looks once,
        and takes what there is.
    clock
        Seconds that only ever grow.
    """

    def __init__(
        self, run: SlurmRun, *, grace: float = GRACE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.run = run
        self._grace = 0.0 if run.is_read_only else grace
        self._clock = clock
        self._started = clock()
        self._watches: dict[int, ArrayWatch] = {}
        self._done: dict[str, float] = {}
        self._told: set[str] = set()
        self._view: QueueView = {}
        self._problem = ""
        self._offers = Offers(run, clock)

    @property
    def interval(self) -> float:
        """Seconds to wait before the next look."""
        return poll_interval(self._clock() - self._started)

    def poll(self) -> Poll:
        """Look once.

        Returns
        -------
        Poll
            The first one of a follower tells all that is settled so far, also by earlier ones.

        Raises
        ------
        SlurmError
            When nothing could be submitted, and never will.
        OSError
            When the run's own files cannot be read or written.
        """
        self.settle()
        if not self.run.is_read_only:
            self._go_on()
        return self._news()

    def settle(self) -> None:
        """Judge what has ended; nothing is submitted.

        Raises
        ------
        OSError
            As :meth:`poll`.
        """
        before = self._extent()
        if self._look():
            for submission in self.run.journal.active:
                if submission.state == SUBMITTED:
                    self._settle(submission)
        if before != self._extent():
            self.run.save()

    def _extent(self) -> tuple[int, ...]:
        journal = self.run.journal
        return len(self._done), len(journal.failures), len(journal.active)

    def _look(self) -> bool:
        """Ask for the queue; False when there is no answer, and nothing can be concluded."""
        for submission in self.run.journal.submissions:
            if submission.state == SETTLED and submission.number not in self._watches:
                self._watch(submission).take_settled(self._done, self.run.journal.failures)
        names = [s.name for s in self.run.journal.active if s.state in (SUBMITTING, SUBMITTED)]
        if not names:
            self._view, self._problem = {}, ""
            return True
        try:
            self._view = self.run.programs.look(names)
        except SlurmError as error:
            if not self._problem:
                logger.warning("The queue cannot be seen; it is asked again. %s", error)
            self._problem = str(error)
            return False
        self._problem = ""
        recover(self.run, self._view)
        end_twins(self.run, self._view)
        return True

    def _watch(self, submission: Submission) -> ArrayWatch:
        if submission.number not in self._watches:
            self._watches[submission.number] = ArrayWatch(self.run, submission, self._grace)
        return self._watches[submission.number]

    def _settle(self, submission: Submission) -> None:
        watch = self._watch(submission)
        array = self._view.get(submission.name)
        array = array.of(submission.job_id) if array else None
        watch.settle(array, self._done, self.run.journal.failures, self._clock())
        if watch.is_over:
            submission.state = SETTLED

    def _go_on(self) -> None:
        """Plan retries and submit what is planned, where it is time for that."""
        journal = self.run.journal
        if self.run.is_cancelled:
            self.run.give_up_cancelled()
            return
        planned = any(submission.state == PLANNED for submission in journal.active)
        waiting = any(watch.n_waiting for watch in self._watches.values())
        # Retries go together: an array for each would be many small ones.
        if not planned and not waiting and not self._problem:
            plan_retries(self.run)
        try:
            self._offers.make()
        except SlurmError as error:
            self._refused(error)

    def _refused(self, error: SlurmError) -> None:
        self.run.refuse(error)
        if not any(submission.job_id for submission in self.run.journal.submissions):
            raise error

    def _news(self) -> Poll:
        failures = self.run.journal.failures
        done = [stem for stem in self._done if stem not in self._told]
        final = {s: f for s, f in failures.items() if f.is_final and s not in self._told}
        self._told.update(done, final)
        # What is tried again may be told again.
        self._told.difference_update(
            stem for stem, f in failures.items() if not f.is_final and stem not in self._done
        )
        watches = [self._watches[s.number] for s in self._active() if s.number in self._watches]
        progress = Progress(
            n_tomograms=self.run.journal.n_tomograms,
            n_running=sum(watch.n_running for watch in watches),
            n_done=len(self._done),
            n_failed=sum(f.is_final for f in failures.values()),
            n_tasks_running=sum(watch.n_tasks_running for watch in watches),
            job_ids=[s.job_id for s in self._active() if s.job_id],
            seconds_each=self._seconds_each(),
            seconds=self._clock() - self._started,
            why_waiting=why_waiting(self._view),
            problem=self._problem,
            refusal=self.run.journal.refusal,
            is_over=not self._active() and not any(f.is_waiting for f in failures.values()),
        )
        return Poll(done, final, progress)

    def _active(self) -> list[Submission]:
        return self.run.journal.active

    def _seconds_each(self) -> float:
        measured = [seconds for seconds in self._done.values() if seconds > 0]
        return sum(measured) / len(measured) if measured else 0.0
