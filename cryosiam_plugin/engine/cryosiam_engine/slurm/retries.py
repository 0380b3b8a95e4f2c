"""What has failed is planned again."""

from __future__ import annotations

from typing import Iterable

from .plan import Item, Task, tasks_of
from .run import CANCEL_FILE, SlurmRun


def retry_failed(run: SlurmRun, stems: Iterable[str] | None = None) -> int:
    """Plan what has finally failed once more, as if for the first time.

    Parameters
    ----------
    run
        Followed by nobody.
    stems
        Only these tomograms; all by default.

    Returns
    -------
    int
        How many tomograms.
    """
    wanted = None if stems is None else set(stems)
    count = 0
    for stem, failure in run.journal.failures.items():
        if failure.is_final and (wanted is None or stem in wanted):
            failure.is_final, failure.is_waiting, failure.attempt = False, True, 0
            failure.avoid = []
            count += 1
    cancelled = run.folder / CANCEL_FILE
    if cancelled.exists():
        cancelled.unlink()
    plan_retries(run)
    return count


def plan_retries(run: SlurmRun) -> None:
    """Plan arrays for all that waits for another attempt.

    What the engine had begun with gets a task of its own: it may have been the cause.
    """
    waiting = {s: failure for s, failure in run.journal.failures.items() if failure.is_waiting}
    if not waiting:
        return
    usual: list[Task] = []
    untouched: list[Item] = []
    with_less: dict[int, list[Task]] = {}
    for stem, failure in waiting.items():
        attempt = max(1, failure.attempt + failure.was_begun)
        item = Item(stem, failure.filename, attempt)
        if not failure.was_begun:
            untouched.append(item)
        elif failure.wants_less:
            with_less.setdefault(max(1, failure.attempt), []).append((item,))
        else:
            usual.append((item,))
    avoid = sorted({node for failure in waiting.values() for node in failure.avoid})
    run.plan([*usual, *tasks_of(untouched, run.journal.per_task)], is_retry=True, avoid=avoid)
    for power, tasks in with_less.items():
        run.plan(tasks, is_retry=True, power=power, avoid=avoid)
    for failure in waiting.values():
        failure.is_waiting = False
        failure.earlier.append(failure.reason)
    run.save()
