"""What has become of the tomograms of one array."""

from __future__ import annotations

from typing import Any, MutableMapping

from .errors import SlurmError
from .files import last_words
from .journal import Failure, Submission
from .plan import TASK_FILE, Item
from .reasons import CANCELLED, INTERRUPTED, TaskEnd, Verdict, judge_end, judge_error
from .retries import failed_attempt
from .run import SlurmRun
from .script import ENDS, LOGS
from .squeue import ArrayView, TaskState
from .statuses import FAILED, is_newer, is_whole, look_again, read_status, seconds_of

Done = MutableMapping[str, float]
Failures = MutableMapping[str, Failure]

#: After these the engine may have written a status that is not seen here yet.
_ORDERLY = ("COMPLETED", "FAILED")
#: Seconds after which any other end is believed: Slurm may be about to queue the task again.
_SECOND_LOOK = 1.0


class ArrayWatch:
    """Settles the tomograms of an array as its tasks go on.

    Parameters
    ----------
    run
        The run.
    submission
        The array.
    grace
        Seconds to wait for a status file after its task has ended.
    """

    def __init__(self, run: SlurmRun, submission: Submission, grace: float) -> None:
        self._run = run
        self._submission = submission
        self._grace = grace
        self._plan = run.plan_of(submission)
        self._folder = run.array_folder(submission)
        self._planned = (self._folder / TASK_FILE).stat().st_mtime
        self._settled: set[str] = set()
        self._ended_at: dict[int, float] = {}
        self._over: set[int] = set()
        self.n_running = self.n_tasks_running = self.n_waiting = 0

    @property
    def is_over(self) -> bool:
        """Whether all tasks have ended and all tomograms are settled."""
        return len(self._over) == len(self._plan.tasks)

    def take_settled(self, done: Done, failures: Failures) -> None:
        """Take over an array that an earlier follower has settled."""
        for item in self._plan.items:
            if not self._was_judged(item, failures):
                done.setdefault(item.stem, 0.0)

    def settle(self, array: ArrayView | None, done: Done, failures: Failures, now: float) -> None:
        """Look at every task that may have something new.

        Parameters
        ----------
        array
            What squeue says; None where Slurm has forgotten the array.
        done
            Gets the seconds of the tomograms with a result.
        failures
            Gets the reasons of the others.
        now
            The follower's clock, in seconds.
        """
        self.n_running = self.n_tasks_running = self.n_waiting = 0
        look_again(self._plan.status_folder)
        due: dict[int, TaskState | None] = {}
        for number, task in enumerate(self._plan.tasks):
            state = None if array is None else array.state_of(number)
            if number in self._over:
                continue
            if state is not None and state.is_waiting:
                self.n_waiting += 1
                self._ended_at.pop(number, None)
                continue
            for item in task:
                if item.stem not in self._settled:
                    self._settle_by_status(item, state, done, failures)
            if self._is_due(number, state, now):
                due[number] = state
        self._end(due, failures, now)

    def _is_due(self, number: int, state: TaskState | None, now: float) -> bool:
        """Note what a task is at; whether it has ended and is to be judged."""
        n_open = self._n_open(number)
        if state is not None and not state.is_ended:
            self.n_tasks_running += 1
            self._ended_at.pop(number, None)
        elif not n_open or self._is_certain(number, state, now):
            return True
        self.n_running += n_open
        return False

    def _n_open(self, number: int) -> int:
        return sum(item.stem not in self._settled for item in self._plan.tasks[number])

    def _end(self, due: dict[int, TaskState | None], failures: Failures, now: float) -> None:
        """Judge tasks, once it is sure that nothing of them is left in Slurm."""
        lost = {number for number, state in due.items() if not state and self._n_open(number)}
        known = {number: state for number, state in due.items() if state}
        if lost:
            known.update(self._run.programs.ended_as(self._submission.job_id))
        gone = set(due) - self._left_in_slurm(due, lost)
        for number in due:
            if number in gone:
                self._give_up(number, due[number], known.get(number), failures)
                self._over.add(number)
            else:
                self._ended_at[number] = now
                self.n_running += self._n_open(number)

    def _left_in_slurm(self, due: dict[int, TaskState | None], lost: set[int]) -> set[int]:
        """Tasks that may go on, after all that is held or was lost sight of has been cancelled."""
        held = {number for number, state in due.items() if state and state.is_stuck}
        if self._run.is_read_only or not held | lost:
            return set()
        programs, job_id = self._run.programs, self._submission.job_id
        try:
            alive = programs.still_there(job_id) & lost if lost else set()
            # Even of a task that Slurm knows no more something might run on a node.
            programs.cancel(f"{job_id}_{number}" for number in sorted((held | lost) - alive))
        except SlurmError:
            return held | lost
        return alive

    def _was_judged(self, item: Item, failures: Failures) -> bool:
        failure = failures.get(item.stem)
        return failure is not None and failure.array >= self._submission.number

    def _is_new(self, item: Item) -> bool:
        return is_newer(self._plan.status_folder, item.stem, self._planned)

    def _settle_by_status(
        self, item: Item, state: TaskState | None, done: Done, failures: Failures
    ) -> None:
        """Settle a tomogram of which the engine says in its status that it is through."""
        if self._was_judged(item, failures):
            self._settled.add(item.stem)
            return
        status = read_status(self._plan.status_folder, item.stem)
        # An older result counts once the engine has found it to be still valid.
        confirmed = state is not None and state.state == "COMPLETED"
        if is_whole(status) and (confirmed or self._is_new(item)):
            done[item.stem] = seconds_of(status)
            self._settled.add(item.stem)
        elif status.get("state") == FAILED and self._is_new(item):
            error: dict[str, Any] = status.get("error") or {}
            if error.get("type") != INTERRUPTED:
                self._fail(item, judge_error(error), failures, state)

    def _is_certain(self, number: int, state: TaskState | None, now: float) -> bool:
        """Whether a task's end is sure, and no status is still on its way through the network."""
        since = self._ended_at.setdefault(number, now)
        is_orderly = state is None or state.state in _ORDERLY
        return now - since >= (self._grace if is_orderly else min(self._grace, _SECOND_LOOK))

    def _give_up(
        self,
        number: int,
        seen: TaskState | None,
        known: TaskState | None,
        failures: Failures,
    ) -> None:
        """Judge the tomograms that a task has left without a result."""
        task = self._plan.tasks[number]
        left = [item for item in task if item.stem not in self._settled]
        if not left:
            return
        verdict = judge_end(self._end_of(number, seen or known))
        begun = {item.stem for item in task if self._is_new(item)}
        for item in left:
            # A task that begins with nothing at all would begin with nothing for ever.
            was_begun = item.stem in begun or not begun
            self._fail(item, verdict, failures, seen or known, was_begun=was_begun)

    def _fail(
        self,
        item: Item,
        verdict: Verdict,
        failures: Failures,
        state: TaskState | None,
        *,
        was_begun: bool = True,
    ) -> None:
        failure = failed_attempt(
            item,
            verdict,
            failures.get(item.stem),
            retries=self._run.journal.retries,
            was_begun=was_begun,
            node=state.node if state else "",
        )
        if self._run.is_cancelled:
            failure.reason, failure.text = CANCELLED, "The run was cancelled."
            failure.is_final, failure.is_waiting = True, False
        failure.array = self._submission.number
        failures[item.stem] = failure
        self._settled.add(item.stem)

    def _end_of(self, number: int, state: TaskState | None) -> TaskEnd:
        code, _, asked_by = _read(self._folder / ENDS / str(number)).partition(" ")
        return TaskEnd(
            state=state.state if state else "",
            reason=state.reason if state and state.reason != "None" else "",
            exit_code=int(code) if code.isdigit() else None,
            asked_by=asked_by.strip(),
            last_words=last_words(self._folder / LOGS / f"{number}.log"),
        )


def _read(path: Any) -> str:
    try:
        return str(path.read_text(encoding="utf-8")).strip()
    except OSError:
        return ""
