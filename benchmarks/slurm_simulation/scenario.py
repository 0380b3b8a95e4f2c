"""What is asked of the simulation: the tomograms, the cluster, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cryosiam_engine.slurm.settings import JobSettings


@dataclass(frozen=True)
class Scenario:
    """One command for all tomograms of a set, as one run of job arrays.

    Attributes
    ----------
    tomograms
        How many.
    seconds, spread
        Mean time of a tomogram with the model loaded, and its standard deviation over that mean.
    start_seconds
        From the start of a task to its first tomogram: container, Python, PyTorch, the model.
    per_task
        Tomograms of a task.
    retries, requeues
        As the engine's options: further attempts, and times that a task goes on after its time
        limit.
    time
        Time limit of a task, as ``sbatch`` takes it.
    gpus, gpus_per_node
        What the cluster has for this user, one per task.
    cap
        Tasks at once at most; 0 for no limit but the GPUs.
    max_array_size, max_jobs
        Slurm's ``MaxArraySize``, and its ``MaxJobCount`` or the user's limit of submitted jobs.
    cycle, starts_per_cycle
        Seconds between two passes of the scheduler, and tasks started in each at most.
    failure_rate
        Share of attempts that are killed at a random moment, as when memory runs out.
    bad_rate
        Share of tomograms that the engine refuses, such as damaged files.
    preemptions_per_day
        Of a task that always runs; it goes back to the queue.
    crashes_per_day, repair_seconds
        Of each node, and how long it is then away; its tasks go back to the queue.
    requeue_seconds
        How long a task waits at least that went back to the queue.
    seed
        Another one gives other times and other failures.
    """

    tomograms: int = 1000
    seconds: float = 60.0
    spread: float = 0.2
    start_seconds: float = 8.0
    per_task: int = 1
    retries: int = 2
    requeues: int = 2
    time: str = "4:00:00"
    gpus: int = 16
    gpus_per_node: int = 4
    cap: int = 0
    max_array_size: int = 1001
    max_jobs: int = 10_000
    cycle: float = 3.0
    starts_per_cycle: int = 100
    failure_rate: float = 0.0
    bad_rate: float = 0.0
    preemptions_per_day: float = 0.0
    crashes_per_day: float = 0.0
    repair_seconds: float = 3600.0
    requeue_seconds: float = 120.0
    seed: int = 0

    @property
    def settings(self) -> JobSettings:
        """What each task asks Slurm for."""
        return JobSettings(gres="gpu:1", cpus=4, memory="32G", time=self.time, cap=self.cap)

    def draw_seconds(self) -> np.ndarray:
        """Time of every tomogram: never below 0, with a tail of long ones."""
        random = np.random.default_rng(self.seed)
        variance = np.log1p(self.spread**2)
        return self.seconds * random.lognormal(-variance / 2, np.sqrt(variance), self.tomograms)

    def draw_bad(self) -> np.ndarray:
        """Which tomograms are refused, whatever else there is."""
        return np.random.default_rng(self.seed + 1).random(self.tomograms) < self.bad_rate
