"""What has ended while nobody followed is judged, before something else is done with a run."""

from __future__ import annotations

import time

from .errors import SlurmError
from .follower import Follower
from .run import SlurmRun

#: Seconds that cancelled jobs are given to end.
ENDING_SECONDS = 90.0
#: Between two looks: Slurm may be about to queue a task again that has just ended.
_SECOND_LOOK = 1.1


def settle_ended(run: SlurmRun, seconds: float = ENDING_SECONDS) -> None:
    """Judge what has ended of a run, and wait for the end of what was cancelled.

    Parameters
    ----------
    run
        Followed by nobody.
    seconds
        How long to wait for that.

    Raises
    ------
    SlurmError
        When jobs of a cancelled run go on.
    """
    follower = Follower(run, grace=1.0)
    end = time.monotonic() + seconds
    if not run.is_cancelled:
        follower.settle()
        if run.journal.active:
            time.sleep(_SECOND_LOOK)
            follower.settle()
        return
    while True:
        poll = follower.poll()
        if poll.is_over:
            return
        if time.monotonic() > end:
            raise SlurmError(
                f"The jobs of {run.folder} were cancelled, but they have not ended. "
                f"{poll.progress.problem}".strip(),
                remedy="Look with squeue, and try again when they are gone.",
            )
        time.sleep(_SECOND_LOOK)
