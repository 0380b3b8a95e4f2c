"""A run of job arrays from its first submission to its last result, event by event.

How tomograms are divided among tasks and arrays, the scripts, the order of submissions, which
failure is tried again and in which array: all that is the engine's own code at work. Only Slurm,
the tasks and the clock are pretended.
"""

from __future__ import annotations

import heapq
import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.follower import poll_interval
from cryosiam_engine.slurm.journal import PLANNED, SETTLED, SUBMITTING, Journal
from cryosiam_engine.slurm.plan import Item
from cryosiam_engine.slurm.reasons import Verdict, judge_end, judge_error
from cryosiam_engine.slurm.retries import failed_attempt, plan_retries
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.submitting import SUBMIT_AGAIN, submit_planned
from outcome import Outcome
from queue_model import QueuedTask, QueueModel
from scenario import Scenario
from task_model import Course, TaskModel


def simulate_run(scenario: Scenario) -> Outcome:
    """Take all tomograms of a scenario through Slurm."""
    with tempfile.TemporaryDirectory() as folder:
        return _Simulation(scenario, Path(folder)).run()


class _Run(SlurmRun):
    """Writes its journal only when it is told to: nothing can crash here."""

    def save(self) -> None:
        pass


class _Simulation:
    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._queue = QueueModel(scenario)
        stems = [f"TS_{number:06d}" for number in range(scenario.tomograms)]
        self._seconds = dict(zip(stems, scenario.draw_seconds().tolist(), strict=True))
        self._bad = {stem for stem, bad in zip(stems, scenario.draw_bad(), strict=True) if bad}
        self._tasks = TaskModel(scenario, self._seconds, self._bad)
        journal = Journal(
            name="simulated",
            command="denoise_predict",
            options=["--config_file", "config.yaml"],
            engine="cryosiam-engine",
            work_folder=str(folder),
            status_folder=str(folder / "status"),
            settings=scenario.settings,
            per_task=scenario.per_task,
            retries=scenario.retries,
            requeues=scenario.requeues,
        )
        items = [Item(stem, f"{stem}.mrc") for stem in stems]
        self._run = _Run.create(folder / "run", journal, items, self._queue)
        self._outcome = Outcome()
        self._now = self._submit_at = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._tick = math.inf
        self._courses: dict[int, tuple[QueuedTask, Course]] = {}
        self._ended: list[tuple[QueuedTask, Course]] = []
        self._is_over = self._is_asked = False  # asked: a failure waits for another attempt

    def run(self) -> Outcome:
        for node in range(-(-self._scenario.gpus // self._scenario.gpus_per_node)):
            self._at(self._tasks.next_crash(), lambda node=node: self._crash(node))
        self._at(0.0, self._poll)
        while not self._is_over:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        self._finish()
        return self._outcome

    def _at(self, after: float, happen: Callable[[], None]) -> None:
        if after < math.inf:
            heapq.heappush(self._events, (self._now + after, next(self._order), happen))

    # ---- Slurm -----------------------------------------------------------------------------------

    def _wake_scheduler(self, *, next_pass: bool = False) -> None:
        cycle = self._scenario.cycle
        when = cycle * (
            math.floor(self._now / cycle) + 1 if next_pass else self._now // -cycle * -1
        )
        when = max(when, self._now)
        if when < self._tick:
            self._tick = when
            self._at(when - self._now, self._schedule)

    def _schedule(self) -> None:
        if self._now < self._tick:
            return
        self._tick = math.inf
        started = self._queue.start_tasks()
        for task in started:
            self._start(task)
        self._outcome.most_running = max(self._outcome.most_running, len(self._courses))
        if len(started) == self._scenario.starts_per_cycle:
            self._wake_scheduler(next_pass=True)

    def _start(self, task: QueuedTask) -> None:
        course = self._tasks.foresee(task, self._now)
        self._courses[id(task)] = (task, course)
        self._outcome.n_starts += 1
        run, preempted = task.run, self._tasks.next_preemption()
        if self._now + preempted < course.ends:
            self._at(preempted, lambda: self._leave(task, run, is_requeued=True))
        self._at(course.ends - self._now, lambda: self._leave(task, run, course.end is None))

    def _leave(self, task: QueuedTask, run: int, is_requeued: bool) -> None:
        """A task gives its GPU back, unless it already has."""
        if task.run != run or task.gpu < 0:
            return
        _, course = self._courses.pop(id(task))
        self._outcome.gpu_seconds += self._now - course.started
        self._outcome.last_end = self._now
        self._queue.release(task)
        settled = course.settled_by(self._now)
        self._take(settled)
        if is_requeued:
            gone = {item.stem for item in settled}
            task.left = [item for item in task.left if item.stem not in gone]
            task.restarts += 1
            self._at(self._scenario.requeue_seconds, lambda: self._put_back(task))
        else:
            self._ended.append((task, course))
            self._queue.end(task)
        self._wake_scheduler()

    def _put_back(self, task: QueuedTask) -> None:
        self._queue.put_back(task)
        self._wake_scheduler()

    def _crash(self, node: int) -> None:
        self._queue.crash(node)
        for task, _ in list(self._courses.values()):
            if self._queue.node_of(task.gpu) == node:
                self._leave(task, task.run, is_requeued=True)
        self._at(self._scenario.repair_seconds, lambda: self._repair(node))

    def _repair(self, node: int) -> None:
        self._queue.repair(node)
        self._at(self._tasks.next_crash(), lambda: self._crash(node))
        self._wake_scheduler()

    # ---- the follower ----------------------------------------------------------------------------

    def _take(self, items: list[Item]) -> None:
        """The engine's statuses of these say done, or why they were refused."""
        for item in items:
            if item.stem in self._bad:
                error = {"type": "TomogramError", "message": f"{item.filename} is damaged."}
                self._charge(item, judge_error(error))
            else:
                self._outcome.done[item.stem] += 1
                self._outcome.useful_seconds += self._seconds[item.stem]

    def _poll(self) -> None:
        journal = self._run.journal
        active = journal.active
        if any(one.job_id for one in active):
            self._outcome.n_looks += 1
        for task, course in self._ended:
            self._judge(task, course)
        self._ended.clear()
        for one in active:
            if one.job_id and one.job_id not in self._queue.arrays:
                one.state = SETTLED
        self._go_on()
        self._is_over = not journal.active and not self._is_asked
        self._at(poll_interval(self._now), self._poll)

    def _judge(self, task: QueuedTask, course: Course) -> None:
        """What a task has left without a result: the first was begun, the others were not."""
        if course.end is None:
            return
        through = {item.stem for _, item in course.steps}
        left = [item for item in task.left if item.stem not in through]
        for position, item in enumerate(left):
            self._charge(item, judge_end(course.end), was_begun=position == 0)

    def _charge(self, item: Item, verdict: Verdict, *, was_begun: bool = True) -> None:
        failures, retries = self._run.journal.failures, self._run.journal.retries
        before = failures.get(item.stem)
        failure = failed_attempt(item, verdict, before, retries=retries, was_begun=was_begun)
        failures[item.stem] = failure
        self._is_asked |= failure.is_waiting

    def _go_on(self) -> None:
        journal = self._run.journal
        is_planned = any(one.state == PLANNED for one in journal.active)
        # As the follower: retries go together.
        if self._is_asked and not is_planned and not self._queue.n_waiting:
            plan_retries(self._run)
            self._is_asked = False
        planned = [one for one in journal.active if one.state == PLANNED]
        if not planned or self._now < self._submit_at:
            return
        if not self._queue.has_room(planned[0].n_tasks):
            # Refused as submit_planned would be, without writing everything down each time.
            self._queue.n_submitted += 1
            self._submit_at = self._now + SUBMIT_AGAIN
            return
        try:
            submit_planned(self._run)
        except SlurmError as error:
            if not error.passing:
                raise
            # As if it were found in no queue a while later.
            for one in journal.active:
                one.state = PLANNED if one.state == SUBMITTING else one.state
            self._submit_at = self._now + SUBMIT_AGAIN
        self._wake_scheduler()

    def _finish(self) -> None:
        outcome, journal = self._outcome, self._run.journal
        outcome.makespan = self._now
        failures = journal.failures.items()
        outcome.failed = {stem: one.reason for stem, one in failures if one.is_final}
        outcome.n_tasks = sum(one.n_tasks for one in journal.submissions)
        outcome.n_arrays = self._queue.n_arrays
        outcome.n_submissions = self._queue.n_submitted
        outcome.largest_array = self._queue.largest_submitted
        journal.write(self._run.folder)
        files = [path for path in self._run.folder.rglob("*") if path.is_file()]
        outcome.run_files = len(files) + outcome.n_tasks
        outcome.run_bytes = sum(path.stat().st_size for path in files)
