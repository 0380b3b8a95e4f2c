"""What became of a simulated run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What became of a simulated run.

    Attributes
    ----------
    makespan, last_end
        Seconds from submission until the last result is registered, and until the last task ended.
    gpu_seconds, useful_seconds
        Held by tasks, and of these spent on tomograms that came out well.
    done
        How often each tomogram came out; once, unless something is wrong.
    failed
        Reasons of those that were given up.
    n_tasks, n_starts, n_arrays, n_submissions, n_looks
        Tasks, their starts, arrays, calls of sbatch, calls of squeue.
    most_running, largest_array
        Tasks at once, and tasks in an array, at most.
    run_files, run_bytes
        What the run itself keeps, logs of tasks included.
    """

    makespan: float = 0.0
    last_end: float = 0.0
    gpu_seconds: float = 0.0
    useful_seconds: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    n_tasks: int = 0
    n_starts: int = 0
    n_arrays: int = 0
    n_submissions: int = 0
    n_looks: int = 0
    most_running: int = 0
    largest_array: int = 0
    run_files: int = 0
    run_bytes: int = 0

    def efficiency(self, gpus: int) -> float:
        """Share of the GPUs' time, from beginning to end, that went into results."""
        return self.useful_seconds / (gpus * self.makespan) if self.makespan else 1.0
