"""How far a run is, in words."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Progress:
    """How far a run is.

    Attributes
    ----------
    n_tomograms, n_running, n_done, n_failed
        Tomograms: of the run, in tasks that run, with a result, finally without one.
    n_tasks_running
        Tasks that run: so many tomograms are computed at once.
    job_ids
        Of the arrays of which something is still to come.
    seconds_each
        Mean time of a tomogram; 0 as long as it is not known.
    seconds
        Since the run is followed.
    why_waiting
        Slurm's most frequent reason.
    problem
        Why the queue cannot be seen; empty when it can.
    refusal
        Why Slurm takes no further jobs at the moment; empty when it does.
    is_over
        Whether nothing is to be expected any more.
    """

    n_tomograms: int = 0
    n_running: int = 0
    n_done: int = 0
    n_failed: int = 0
    n_tasks_running: int = 0
    job_ids: list[str] = field(default_factory=list)
    seconds_each: float = 0.0
    seconds: float = 0.0
    why_waiting: str = ""
    problem: str = ""
    refusal: str = ""
    is_over: bool = False

    @property
    def n_waiting(self) -> int:
        """Tomograms that wait for a node or for another attempt."""
        return max(0, self.n_tomograms - self.n_running - self.n_done - self.n_failed)

    @property
    def seconds_left(self) -> float | None:
        """Estimated; None as long as that cannot be known."""
        if not self.seconds_each or not self.n_tasks_running:
            return None
        rest = self.n_waiting + self.n_running
        return self.seconds_each * -(-rest // self.n_tasks_running)


def in_words(progress: Progress) -> str:
    """Say in one line how far a run is.

    Examples
    --------
    >>> in_words(Progress(n_tomograms=12, n_running=4, n_done=2, n_tasks_running=4, seconds=75,
    ...                   seconds_each=30.0))
    'waiting 6, running 4, done 2, failed 0 of 12 | 30 s per tomogram | 1:15, about 1:30 left'
    """
    parts = [
        f"waiting {progress.n_waiting}, running {progress.n_running}, done {progress.n_done}, "
        f"failed {progress.n_failed} of {progress.n_tomograms}"
    ]
    if progress.seconds_each:
        parts.append(f"{progress.seconds_each:.3g} s per tomogram")
    left = "" if progress.is_over else _left(progress.seconds_left)
    parts.append(f"{clock_time(progress.seconds)}{left}")
    if _trouble(progress):
        parts.append(_trouble(progress))
    elif progress.n_waiting and progress.why_waiting:
        parts.append(f"waiting for: {progress.why_waiting}")
    return " | ".join(parts)


def live_line(progress: Progress, width: int) -> str:
    """Say the same in so many characters, the time left first.

    Parameters
    ----------
    progress
        How far the run is.
    width
        Characters; what does not fit is left out from the end on.

    Examples
    --------
    >>> live_line(Progress(n_tomograms=12, n_running=4, n_done=2, n_tasks_running=4, seconds=75,
    ...                    seconds_each=30.0, why_waiting="Resources"), 79)
    '1:30 left | wait 6, run 4, done 2, failed 0 of 12 | 30 s each | 1:15'
    """
    left = None if progress.is_over else progress.seconds_left
    parts = [] if left is None else [f"{clock_time(left)} left"]
    parts.append(
        f"wait {progress.n_waiting}, run {progress.n_running}, done {progress.n_done}, "
        f"failed {progress.n_failed} of {progress.n_tomograms}"
    )
    if _trouble(progress):
        parts.append(_trouble(progress))
    if progress.seconds_each:
        parts.append(f"{progress.seconds_each:.3g} s each")
    parts.append(clock_time(progress.seconds))
    if progress.n_waiting and progress.why_waiting:
        parts.append(progress.why_waiting)
    line = ""
    for part in parts:
        longer = f"{line} | {part}" if line else part
        if len(longer) > width:
            return longer[:width] if part == _trouble(progress) or not line else line
        line = longer
    return line


def clock_time(seconds: float) -> str:
    """Seconds as people read them.

    Examples
    --------
    >>> clock_time(75), clock_time(7325)
    ('1:15', '2:02:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", about {clock_time(seconds)} left"


def _trouble(progress: Progress) -> str:
    if progress.problem:
        return "no answer from the queue"
    return f"Slurm takes no further jobs now: {progress.refusal}" if progress.refusal else ""
