"""What has failed is planned again."""

from __future__ import annotations

from typing import Iterable

from .journal import Failure
from .plan import Item, Task, tasks_of
from .reasons import CANCELLED, PREEMPTED, Verdict
from .run import SlurmRun
from .script import CANCEL_FILE

#: Times that a tomogram may be pushed aside: a bound for what should never be reached.
MOST_PREEMPTIONS = 50


def failed_attempt(
    item: Item,
    verdict: Verdict,
    before: Failure | None,
    *,
    retries: int,
    was_begun: bool = True,
    node: str = "",
) -> Failure:
    """Note an attempt without a result, and decide whether there is another one.

    Parameters
    ----------
    item
        The tomogram, and which attempt it was.
    verdict
        Why there is no result.
    before
        The tomogram's last failure.
    retries
        Times that it may be tried again.
    was_begun
        Whether the engine had begun with it.
    node
        Where that was, if it is known.
    """
    last = before or Failure(0, "", "")
    lacked = verdict if was_begun else Verdict("", "")
    preemptions = last.preemptions + (verdict.reason == PREEMPTED and was_begun)
    charged = item.attempt - preemptions
    again = verdict.is_retried and charged <= retries
    if verdict.reason == PREEMPTED:
        again = preemptions <= MOST_PREEMPTIONS
    if not was_begun:
        again = verdict.reason != CANCELLED
    blamed = {node} if node and verdict.wants_another_node else set()
    return Failure(
        attempt=item.attempt,
        reason=verdict.reason,
        text=verdict.text,
        filename=item.filename,
        is_final=not again,
        is_waiting=again,
        memory_failures=last.memory_failures + lacked.lacks_memory,
        gpu_memory_failures=last.gpu_memory_failures + lacked.lacks_gpu_memory,
        preemptions=preemptions,
        was_begun=was_begun,
        earlier=last.earlier,
        avoid=sorted(blamed.union(last.avoid)),
    )


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
            failure.avoid, failure.preemptions = [], 0
            failure.memory_failures = min(1, failure.memory_failures)
            failure.gpu_memory_failures = min(1, failure.gpu_memory_failures)
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
    alone: dict[tuple[int, int], list[Task]] = {(0, 0): []}
    untouched: list[Item] = []
    for stem, failure in waiting.items():
        item = Item(stem, failure.filename, max(1, failure.attempt + failure.was_begun))
        if failure.was_begun:
            shortages = (failure.memory_failures, failure.gpu_memory_failures)
            alone.setdefault(shortages, []).append((item,))
        else:
            untouched.append(item)
    alone[0, 0] += tasks_of(untouched, run.journal.per_task)
    avoid = sorted({node for failure in waiting.values() for node in failure.avoid})
    for (memory, gpu_memory), tasks in alone.items():
        run.plan(
            tasks,
            is_retry=True,
            memory_failures=memory,
            gpu_memory_failures=gpu_memory,
            avoid=avoid,
        )
    for failure in waiting.values():
        failure.is_waiting = False
        failure.earlier.append(failure.reason)
    run.save()
