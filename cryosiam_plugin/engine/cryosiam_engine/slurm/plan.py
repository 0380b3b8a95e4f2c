"""Which task of which array computes which tomograms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence, TypeVar

from .files import write_json

#: Tasks of an array at most, whatever the cluster allows: each task leaves a log, and folders of
#: more files are slow on the file systems of clusters.
LARGEST_ARRAY = 1000

TASK_FILE = "tasks.json"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Item:
    """One tomogram to compute.

    Attributes
    ----------
    stem
        Its name, as in the names of its results and of its status file.
    filename
        What the engine's ``--filename`` gets; empty for a command that takes none.
    attempt
        Counted from 1.
    """

    stem: str
    filename: str = ""
    attempt: int = 1


#: What one task of an array computes, in this order.
Task = Sequence[Item]


@dataclass(frozen=True)
class ArrayPlan:
    """What the tasks of one array do; each reads it, and takes its own part by its number.

    Attributes
    ----------
    command
        The engine's command.
    options
        Its options, all but ``--filename``.
    status_folder
        Where it writes status files.
    tasks
        The tomograms of every task.
    restart_options
        Take the place of `options` when a task begins once more.
    memory_share
        Share of the job's memory that the engine may plan its tiles with.
    """

    command: str
    options: Sequence[str]
    status_folder: Path
    tasks: Sequence[Task]
    restart_options: Sequence[str] = ()
    memory_share: float = 1.0

    @property
    def items(self) -> list[Item]:
        """The tomograms of all tasks."""
        return [item for task in self.tasks for item in task]

    def write(self, path: Path) -> None:
        """Write the plan, atomically: a task may start at any time."""
        values = {
            "command": self.command,
            "options": list(self.options),
            "restart_options": list(self.restart_options),
            "status_folder": str(self.status_folder),
            "memory_share": self.memory_share,
            "tasks": [[[i.stem, i.filename, i.attempt] for i in task] for task in self.tasks],
        }
        write_json(path, values)

    @classmethod
    def read(cls, path: Path) -> ArrayPlan:
        """Read a plan.

        Raises
        ------
        OSError, ValueError
            When there is none, or it is damaged.
        """
        values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        try:
            return cls(
                command=values["command"],
                options=tuple(values["options"]),
                status_folder=Path(values["status_folder"]),
                tasks=tuple(tuple(Item(*item) for item in task) for task in values["tasks"]),
                restart_options=tuple(values["restart_options"]),
                memory_share=float(values["memory_share"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is no plan of an array: {error!r}.") from error


def tasks_of(items: Sequence[Item], per_task: int) -> list[Task]:
    """Divide tomograms among tasks, in order, `per_task` to each; the last may have fewer."""
    return _pieces(items, max(1, per_task))


def arrays_of(tasks: Sequence[Task], largest: int) -> list[Sequence[Task]]:
    """Divide tasks among arrays of about equal size.

    Parameters
    ----------
    tasks
        All tasks.
    largest
        Tasks that an array of this cluster may have: its ``MaxArraySize`` less one.
    """
    limit = max(1, min(largest, LARGEST_ARRAY))
    n_arrays = -(-len(tasks) // limit)
    return _pieces(tasks, -(-len(tasks) // n_arrays)) if n_arrays else []


def _pieces(things: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [tuple(things[start : start + size]) for start in range(0, len(things), size)]
