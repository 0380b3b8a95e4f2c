"""What a task would do from its start on, if nobody interrupted it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import numpy as np
from cryosiam_engine.slurm.plan import Item
from cryosiam_engine.slurm.reasons import TaskEnd
from cryosiam_engine.slurm.settings import seconds_of_time
from queue_model import QueuedTask
from scenario import Scenario


@dataclass
class Course:
    """The foreseen way of a started task.

    Attributes
    ----------
    started
        When it got its GPU.
    steps
        Its tomograms and when each is at its end, done or refused.
    ends
        When the task ends.
    end
        What Slurm and the script know of it then; None when it goes back to the queue.
    """

    started: float
    steps: list[tuple[float, Item]] = field(default_factory=list)
    ends: float = 0.0
    end: TaskEnd | None = None

    def settled_by(self, now: float) -> list[Item]:
        """Tomograms that are at their end by then."""
        # The clock's sums are rounded.
        return [item for when, item in self.steps if when <= now + 1e-6]


class TaskModel:
    """Foresees tasks.

    Parameters
    ----------
    scenario
        The costs, and what goes wrong.
    seconds
        Of every tomogram, by its stem.
    bad
        Stems of tomograms that are refused.
    """

    def __init__(self, scenario: Scenario, seconds: Mapping[str, float], bad: Set[str]) -> None:
        self._scenario = scenario
        self._seconds, self._bad = seconds, bad
        self._random = np.random.default_rng(scenario.seed + 2)
        limit = seconds_of_time(scenario.time) if scenario.time else 0
        warning = scenario.settings.warning_seconds
        self._told_after = limit - warning if limit else float("inf")

    def foresee(self, task: QueuedTask, now: float) -> Course:
        """A task that starts now, in the order of its tomograms.

        Before its time is up it is told to stop: the tomogram that it is at is lost, and it goes
        back to the queue as often as the script allows.
        """
        course = Course(now)
        told = now + self._told_after
        at, end = now + self._scenario.start_seconds, TaskEnd("COMPLETED", exit_code=0)
        for item in task.left:
            needed = 0.0 if item.stem in self._bad else self._seconds[item.stem]
            is_killed = needed > 0 and self._random.random() < self._scenario.failure_rate
            at += needed * (self._random.random() if is_killed else 1.0)
            if at > told:
                break
            if is_killed:
                end = TaskEnd("OUT_OF_MEMORY", exit_code=137)
                break
            course.steps.append((at, item))
        course.ends, course.end = min(at, told), end
        if at > told:
            is_requeued = task.restarts < self._scenario.requeues
            course.end = None if is_requeued else TaskEnd("FAILED", exit_code=1, asked_by="USR1")
        return course

    def next_preemption(self) -> float:
        """Seconds until somebody more important wants the GPU of a task that has just started."""
        rate = self._scenario.preemptions_per_day / 86400
        return self._random.exponential(1 / rate) if rate else float("inf")

    def next_crash(self) -> float:
        """Seconds until a node that is up crashes."""
        rate = self._scenario.crashes_per_day / 86400
        return self._random.exponential(1 / rate) if rate else float("inf")
