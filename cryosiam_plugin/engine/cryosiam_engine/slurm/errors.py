"""What can go wrong between us and Slurm."""

from __future__ import annotations

from typing import Sequence

#: Limits of Slurm that a submission met: the job table is full, one of us has too many jobs, the
#: array has too many tasks. In all three cases Slurm has answered, and has no such job.
FULL, TOO_MANY, TOO_LARGE = "job table", "jobs of a user", "tasks of an array"


class SlurmError(Exception):
    """Slurm refuses, or cannot be reached.

    Parameters
    ----------
    message
        What is wrong, with Slurm's own words.
    remedy
        What to do about it.
    passing
        Whether the same may work later: a controller that restarts, a limit on jobs in the queue.
    limit
        Which limit was met: `FULL`, `TOO_MANY` or `TOO_LARGE`; empty if it was none.
    about
        What is to be changed: ``partition``, ``account``, ``qos``, ``time``, ``memory``, ``gpus``,
        ``cpus``, ``per_task``, or other ``options`` of sbatch.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        passing: bool = False,
        limit: str = "",
        about: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy
        self.passing = passing
        self.limit = limit
        self.about = tuple(about)
