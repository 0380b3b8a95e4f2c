"""What squeue says about arrays."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Mapping

#: What squeue is asked to print: waiting tasks of an array share a line, others have one each.
FORMAT = "%j|%F|%K|%T|%N|%r"

#: A task in one of these is at its end; in any other it is waiting or running.
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "REVOKED", "TIMEOUT"}
)
WAITING = frozenset(
    ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
)

#: Part of Slurm's reason for a task that a node failed to start.
LAUNCH_FAILED = "launch failed"


@dataclass(frozen=True)
class TaskState:
    """One task, as Slurm sees it.

    Attributes
    ----------
    state
        Such as ``PENDING``, ``RUNNING`` or ``TIMEOUT``.
    reason
        Why it waits, or why it failed.
    node
        Where it runs or ran; empty as long as it waits.
    """

    state: str
    reason: str = ""
    node: str = ""

    @property
    def is_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ENDED or self.is_stuck

    @property
    def is_waiting(self) -> bool:
        """Whether it holds no node, and waits for one."""
        return self.state in WAITING and not self.is_stuck

    @property
    def is_stuck(self) -> bool:
        """Whether its node failed to start it, upon which Slurm queues it again and holds it."""
        return self.state in WAITING and LAUNCH_FAILED in self.reason


@dataclass
class ArrayView:
    """One array, as Slurm sees it.

    Attributes
    ----------
    job_id
        The array's.
    tasks
        Those that Slurm still knows, by their number.
    rest
        What the tasks are that squeue was too brief to list; None when it listed all.
    twins
        Earlier jobs of the same name, by a crash at the wrong moment.
    """

    job_id: str
    tasks: dict[int, TaskState] = field(default_factory=dict)
    rest: TaskState | None = None
    twins: list[ArrayView] = field(default_factory=list)

    def state_of(self, task: int) -> TaskState | None:
        """The state of a task; None where Slurm has forgotten it."""
        return self.tasks.get(task, self.rest)

    def of(self, job_id: str) -> ArrayView | None:
        """The array or a twin, by its id; None where Slurm has forgotten it."""
        return next((one for one in (self, *self.twins) if one.job_id == job_id), None)

    @property
    def goes_on(self) -> bool:
        """Whether any of its tasks waits or runs."""
        states = [*self.tasks.values(), *([self.rest] if self.rest else [])]
        return any(not state.is_ended for state in states)


#: All arrays that were asked for, by the names of their jobs.
QueueView = Mapping[str, ArrayView]


def parse_squeue(text: str) -> dict[str, ArrayView]:
    """Read what squeue printed in our format.

    Parameters
    ----------
    text
        Lines of `FORMAT`; others, such as the headers of several clusters, are skipped.
    """
    found: dict[tuple[str, str], ArrayView] = {}
    for line in text.splitlines():
        # A name of ours has no bar in it, but Slurm's reasons may have anything.
        fields = line.strip().split("|", 5)
        if len(fields) < 6 or not fields[1].isdigit():
            continue
        name, job_id, expression, state, node, reason = fields
        array = found.setdefault((name, job_id), ArrayView(job_id))
        task = TaskState(state, reason, node)
        numbers, is_whole = parse_task_ids(expression)
        array.tasks.update(dict.fromkeys(numbers, task))
        if not is_whole:
            array.rest = task
    view: dict[str, ArrayView] = {}
    for name, job_id in sorted(found, key=lambda key: int(key[1])):
        array = found[name, job_id]
        if name in view:
            array.twins = [*view[name].twins, view[name]]
        view[name] = array
    return view


def parse_task_ids(text: str) -> tuple[list[int], bool]:
    """Read the numbers of an array's tasks as Slurm writes them.

    Parameters
    ----------
    text
        Such as ``7``, ``[3-9,12%20]``, ``0-30:10``, or cut short: ``1-3,5,...``.

    Returns
    -------
    list of int
        The numbers.
    bool
        Whether those are all.
    """
    text = text.strip().strip("[]").split("%")[0]
    numbers: list[int] = []
    is_whole = True
    for part in text.split(","):
        found = re.match(r"(\d+)(?:-(\d+)(?::(\d+))?)?$", part)
        if found:
            first = int(found.group(1))
            last = int(found.group(2) or first)
            numbers.extend(range(first, last + 1, int(found.group(3) or 1)))
        elif part not in ("", "N/A"):
            is_whole = False
    return numbers, is_whole


def why_waiting(view: QueueView) -> str:
    """The most frequent reason why tasks wait; empty when none does, or without one."""
    reasons = Counter(
        task.reason
        for array in view.values()
        for task in array.tasks.values()
        if task.is_waiting and task.reason not in ("", "None", "JobArrayTaskLimit")
    )
    return reasons.most_common(1)[0][0] if reasons else ""
