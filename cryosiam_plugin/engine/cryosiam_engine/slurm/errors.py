"""What can go wrong between us and Slurm."""

from __future__ import annotations


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
    """

    def __init__(self, message: str, *, remedy: str = "", passing: bool = False) -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy
        self.passing = passing
