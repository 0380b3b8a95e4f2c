"""What was submitted, and what became of it: the memory of a run that outlives its follower."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .files import write_json
from .settings import JobSettings

JOURNAL = "journal.json"

#: A submission's way: written down, being submitted, in the queue, every tomogram settled.
PLANNED, SUBMITTING, SUBMITTED, SETTLED = "planned", "submitting", "submitted", "settled"


@dataclass
class Submission:
    """One array.

    Attributes
    ----------
    number
        Counted from 1; its folder is named after it.
    name
        The job's name, by which it is found again if its id was lost.
    n_tasks, n_tomograms
        How many.
    state
        ``planned``, ``submitting``, ``submitted`` or ``settled``.
    job_id
        Slurm's; empty until it is known.
    after
        Numbers of the submissions that must have ended before it begins.
    more_memory
        By how much the job's memory is multiplied.
    avoid
        Nodes that the job shall not run on.
    is_retry
        Whether its tomograms were in an earlier array already.
    submitted
        When, in seconds since 1970; 0 before.
    """

    number: int
    name: str
    n_tasks: int
    n_tomograms: int
    state: str = PLANNED
    job_id: str = ""
    after: list[int] = field(default_factory=list)
    more_memory: float = 1.0
    avoid: list[str] = field(default_factory=list)
    is_retry: bool = False
    submitted: float = 0.0


@dataclass
class Failure:
    """Why an attempt at a tomogram had no result.

    Attributes
    ----------
    attempt
        Counted from 1.
    reason
        In one word, such as ``out of memory``.
    text
        In a sentence, with what to do about it.
    filename
        What the engine's ``--filename`` gets.
    array
        Number of the submission that the attempt was part of.
    is_final
        Whether it will not be tried again.
    is_waiting
        Whether it shall be tried again and is in no array yet.
    memory_failures, gpu_memory_failures
        Attempts so far for which memory was short, or the GPU's: the next ones get more, or plan
        with less.
    preemptions
        Attempts so far that were pushed aside: they are nobody's fault, and do not count.
    was_begun
        Whether the engine had begun with it; else the attempt does not count.
    earlier
        The reasons of the attempts before.
    avoid
        Nodes that were to blame, now or before.
    """

    attempt: int
    reason: str
    text: str
    filename: str = ""
    array: int = 0
    is_final: bool = True
    is_waiting: bool = False
    memory_failures: int = 0
    gpu_memory_failures: int = 0
    preemptions: int = 0
    was_begun: bool = True
    earlier: list[str] = field(default_factory=list)
    avoid: list[str] = field(default_factory=list)


@dataclass
class Journal:
    """Everything about a run on Slurm that its folder's files do not say by themselves.

    Attributes
    ----------
    name
        Of the run; the names of its jobs begin with it.
    command
        The engine's command.
    options, restart_options
        The command's options, all but ``--filename``; the second ones for a second start.
    engine
        A shell line's words that start the engine, quoted.
    work_folder, status_folder
        Where the engine is started, and where it writes its status files.
    settings
        What each task asks Slurm for.
    per_task
        Tomograms of a task.
    retries
        Times that a tomogram is tried again.
    requeues
        Times that a task may queue itself again when its time is nearly up.
    submissions
        The arrays, in order.
    failures
        By the tomogram's stem: its last attempt without a result.
    largest
        Tasks that an array of this user may have; 0 where only the cluster's own limit is known.
    refusal
        Why Slurm did not take the last array that was offered to it; empty if it did.
    """

    name: str
    command: str
    options: list[str]
    engine: str
    work_folder: str
    status_folder: str
    settings: JobSettings = field(default_factory=JobSettings)
    restart_options: list[str] = field(default_factory=list)
    per_task: int = 1
    retries: int = 2
    requeues: int = 2
    submissions: list[Submission] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    largest: int = 0
    refusal: str = ""

    def write(self, folder: Path) -> None:
        """Write the journal of the run in `folder`, atomically."""
        write_json(Path(folder) / JOURNAL, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """Read the journal of the run in `folder`.

        Raises
        ------
        OSError, ValueError
            When there is none, or it is damaged.
        """
        path = Path(folder) / JOURNAL
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        try:
            settings = values.pop("settings")
            settings["extra"] = tuple(settings["extra"])
            submissions = [Submission(**entry) for entry in values.pop("submissions")]
            failures = {s: Failure(**entry) for s, entry in values.pop("failures").items()}
            return cls(
                settings=JobSettings(**settings),
                submissions=submissions,
                failures=failures,
                **values,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no journal of a run on Slurm: {error!r}.") from error

    @property
    def active(self) -> list[Submission]:
        """Arrays of which something is still to come."""
        return [one for one in self.submissions if one.state != SETTLED]

    @property
    def n_tomograms(self) -> int:
        """Tomograms of the run, each counted once."""
        return sum(one.n_tomograms for one in self.submissions if not one.is_retry)
