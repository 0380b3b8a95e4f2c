"""A Slurm in memory: arrays, a scheduler that looks now and then, GPUs on nodes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.plan import TASK_FILE, ArrayPlan, Item
from cryosiam_engine.slurm.programs import SlurmPrograms
from scenario import Scenario


@dataclass
class QueuedTask:
    """One task of an array.

    Attributes
    ----------
    items
        Its tomograms.
    left
        Those that it has not brought to an end.
    restarts
        How often it went back to the queue.
    gpu
        Which one it holds; -1 while it waits.
    run
        Counts its starts, so that what was foreseen for an earlier one is not taken for this one.
    """

    array: QueuedArray
    items: Sequence[Item]
    left: list[Item]
    restarts: int = 0
    gpu: int = -1
    run: int = 0


@dataclass
class QueuedArray:
    """One job array as Slurm holds it."""

    job_id: str
    cap: int
    after: set[str]
    waiting: deque[QueuedTask] = field(default_factory=deque)
    n_open: int = 0
    n_running: int = 0

    @property
    def may_start_one(self) -> bool:
        """Whether a task waits that its own cap does not forbid."""
        return bool(self.waiting) and (not self.cap or self.n_running < self.cap)


class QueueModel(SlurmPrograms):
    """Takes the job scripts that the engine writes, and hands out GPUs.

    Parameters
    ----------
    scenario
        The cluster.
    """

    def __init__(self, scenario: Scenario) -> None:
        super().__init__()
        self._scenario = scenario
        self._free = list(range(scenario.gpus))[::-1]
        self._down: set[int] = set()
        self.arrays: dict[str, QueuedArray] = {}
        self.n_submitted = self.n_arrays = 0
        self.largest_submitted = 0

    # ---- what the engine asks --------------------------------------------------------------------

    def largest_array(self) -> int:
        """Tasks that an array may have."""
        return self._scenario.max_array_size - 1

    def submit(self, script: Path, options: Sequence[str] = ()) -> str:
        """Queue an array as its script says."""
        text = script.read_text(encoding="utf-8")
        asked = re.search(r"--array=0-(\d+)(?:%(\d+))?", text)
        after = re.search(r"--dependency=afterany:(\S+)", text)
        if asked is None:
            raise SlurmError(f"{script} asks for no array.")
        tasks = ArrayPlan.read(script.parent / TASK_FILE).tasks
        n_tasks = int(asked.group(1)) + 1
        self.n_submitted += 1
        if n_tasks > self.largest_array() or n_tasks != len(tasks):
            raise SlurmError("sbatch: error: Invalid job array specification")
        if not self.has_room(n_tasks):
            raise SlurmError("sbatch: Slurm temporarily unable to accept job", passing=True)
        self.n_arrays += 1
        self.largest_submitted = max(self.largest_submitted, n_tasks)
        job_id = str(self.n_arrays)
        known = set(after.group(1).split(":")) & set(self.arrays) if after else set()
        array = QueuedArray(job_id, int(asked.group(2) or 0), known)
        array.waiting.extend(QueuedTask(array, task, list(task)) for task in tasks)
        array.n_open = n_tasks
        self.arrays[job_id] = array
        return job_id

    # ---- what happens in it ----------------------------------------------------------------------

    def has_room(self, n_tasks: int) -> bool:
        """Whether so many further tasks would be taken."""
        n_jobs = sum(array.n_open for array in self.arrays.values())
        return n_jobs + n_tasks <= self._scenario.max_jobs

    @property
    def n_waiting(self) -> int:
        """Tasks that hold no GPU."""
        return sum(array.n_open - array.n_running for array in self.arrays.values())

    def node_of(self, gpu: int) -> int:
        """Where a GPU is."""
        return gpu // self._scenario.gpus_per_node

    def start_tasks(self) -> list[QueuedTask]:
        """One pass of the scheduler: first come, first served."""
        started: list[QueuedTask] = []
        for array in self.arrays.values():
            if not self._free or len(started) == self._scenario.starts_per_cycle:
                break
            if array.after:
                continue
            while (
                self._free
                and array.may_start_one
                and len(started) < self._scenario.starts_per_cycle
            ):
                task = array.waiting.popleft()
                task.gpu, task.run = self._free.pop(), task.run + 1
                array.n_running += 1
                started.append(task)
        return started

    def release(self, task: QueuedTask) -> None:
        """Take the task's GPU back."""
        if self.node_of(task.gpu) not in self._down:
            self._free.append(task.gpu)
        task.array.n_running -= 1
        task.gpu = -1

    def end(self, task: QueuedTask) -> None:
        """Forget a task; arrays that waited for the last of its array may begin."""
        array = task.array
        array.n_open -= 1
        if not array.n_open:
            del self.arrays[array.job_id]
            for other in self.arrays.values():
                other.after.discard(array.job_id)

    def put_back(self, task: QueuedTask) -> None:
        """A task that was requeued may start again."""
        task.array.waiting.append(task)

    def crash(self, node: int) -> None:
        """A node gives out no GPU until it is repaired."""
        self._down.add(node)
        self._free = [gpu for gpu in self._free if self.node_of(gpu) != node]

    def repair(self, node: int) -> None:
        """A node is back, with nothing on it."""
        self._down.discard(node)
        first = node * self._scenario.gpus_per_node
        last = min(first + self._scenario.gpus_per_node, self._scenario.gpus)
        self._free.extend(range(first, last))
