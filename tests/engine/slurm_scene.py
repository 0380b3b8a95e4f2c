"""A queue in memory that obeys the test, and a run in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.follower import Follower, Poll
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.slurm.plan import ArrayPlan, Item
from cryosiam_engine.slurm.programs import SlurmPrograms
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.squeue import ArrayView, TaskState


class Queue(SlurmPrograms):
    """A queue in memory: `states` says by job and task what Slurm would."""

    def __init__(self, largest: int = 1000) -> None:
        super().__init__()
        self.largest = largest
        self.jobs: dict[str, str] = {}
        self.scripts: dict[str, str] = {}
        self.states: dict[tuple[str, int], TaskState] = {}
        self.broken: SlurmError | None = None
        self.refuses: list[SlurmError] = []
        self.forgets_answer = False
        self.cancelled: list[str] = []
        #: What squeue does not show: known to the controller, and to the accounting.
        self.hidden: dict[tuple[str, int], TaskState] = {}
        self.accounted: dict[tuple[str, int], TaskState] = {}
        self.n_accounts = 0

    def submit(self, script: Path, options: object = ()) -> str:
        if self.refuses:
            raise self.refuses.pop(0)
        text = script.read_text()
        name = text.split("--job-name=")[1].split()[0]
        n_tasks = int(text.split("--array=0-")[1].split()[0].split("%")[0]) + 1
        job = str(100 + len(self.jobs))
        self.jobs[name], self.scripts[name] = job, text
        for task in range(n_tasks):
            self.states[job, task] = TaskState("PENDING", "Resources")
        if self.forgets_answer:
            raise SlurmError("sbatch: Socket timed out", passing=True)
        return job

    def look(self, names: object) -> dict[str, ArrayView]:
        self.n_looks += 1
        if self.broken:
            raise self.broken
        view: dict[str, ArrayView] = {}
        for name in names:  # type: ignore[attr-defined]
            job = self.jobs.get(name)
            tasks = {task: state for (one, task), state in self.states.items() if one == job}
            if tasks:
                view[name] = ArrayView(str(job), tasks)
        return view

    def has_jobs(self) -> bool:
        return any(not state.is_ended for state in self.states.values())

    def submit_other(self, n_tasks: int) -> None:
        """Another job of the same user."""
        for task in range(n_tasks):
            self.states["other", task] = TaskState("RUNNING")

    def cancel(self, job_ids: object = (), name: str = "") -> None:
        self.cancelled += [*job_ids, *([name] if name else [])]  # type: ignore[misc]

    def largest_array(self) -> int:
        return self.largest

    def still_there(self, job_id: str) -> set[int]:
        if self.broken:
            raise self.broken
        return {task for (job, task), state in self.hidden.items() if job == job_id}

    def ended_as(self, job_id: str) -> dict[int, TaskState]:
        self.n_accounts += 1
        return {task: state for (job, task), state in self.accounted.items() if job == job_id}


class Scene:
    """A run, its queue, a clock, and an engine whose words the test writes."""

    def __init__(self, folder: Path, n: int, queue: Queue, **journal: object) -> None:
        self.folder, self.queue, self.now = folder, queue, 0.0
        self.status = folder / "status"
        self.status.mkdir()
        values = {"name": "run", "command": "denoise_predict", "options": [], "engine": "engine"}
        values |= {"work_folder": str(folder), "status_folder": str(self.status), **journal}
        items = [Item(f"TS_{number}", f"TS_{number}.mrc") for number in range(n)]
        self.run = SlurmRun.create(folder / "run", Journal(**values), items, queue)
        self.follower = Follower(self.run, grace=30, clock=lambda: self.now)

    def poll(self, seconds: float = 2.0) -> Poll:
        self.now += seconds
        return self.follower.poll()

    def again(self) -> None:
        """Another process takes the run up."""
        self.run = SlurmRun.open(self.folder / "run", self.queue)
        self.follower = Follower(self.run, grace=30, clock=lambda: self.now)

    def says(self, number: int, state: str, **more: object) -> None:
        path = self.status / f"TS_{number}.json"
        path.write_text(json.dumps({"state": state, "seconds": {"predict": 4.0}, **more}))
        os.utime(path, (self.later, self.later))

    @property
    def later(self) -> float:
        """A time after the last plan was written."""
        plans = (self.folder / "run").glob("array_*/tasks.json")
        return max(path.stat().st_mtime for path in plans) + 1

    def task(self, number: int, state: str, reason: str = "None", array: int = 1) -> None:
        self.queue.states[self.queue.jobs[f"run-{array}"], number] = TaskState(state, reason)

    def plan_in_file(self, array: int) -> list[Item]:
        """What an array computes, whoever planned it."""
        return ArrayPlan.read(self.folder / "run" / f"array_{array:03d}" / "tasks.json").items

    def plan(self, array: int) -> ArrayPlan:
        return self.run.plan_of(self.run.journal.submissions[array - 1])
