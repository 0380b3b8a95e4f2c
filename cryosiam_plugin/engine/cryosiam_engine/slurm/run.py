"""A run on Slurm: which arrays it has, and where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from .files import write_text
from .journal import PLANNED, SETTLED, Failure, Journal, Submission
from .plan import LARGEST_ARRAY, TASK_FILE, ArrayPlan, Item, Task, arrays_of, tasks_of
from .programs import SlurmPrograms
from .reasons import CANCELLED
from .script import CANCEL_FILE, ENDS, LOGS
from .statuses import forget_unfinished

#: Held by whoever submits: two followers would submit everything twice.
LOCK = ".follower.lock"

#: Further memory for what ran out of it.
MORE_MEMORY = 1.5
#: Share of its former tiles' memory that such a tomogram's next attempt may plan with.
SMALLER_TILES = 0.5


class SlurmRun:
    """One set of tomograms on its way through Slurm.

    Parameters
    ----------
    folder
        Where everything about it is kept, on a file system that the nodes share.
    journal
        Read from there, or new.
    programs
        Slurm.
    is_read_only
        For somebody who only wants to look: nothing is written and nothing submitted.

    Attributes
    ----------
    answered
        Numbers of submissions whose sbatch this process saw end.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        programs: SlurmPrograms,
        *,
        is_read_only: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.journal = journal
        self.programs = programs
        self.is_read_only = is_read_only
        self.answered: set[int] = set()

    @classmethod
    def create(
        cls,
        folder: Path,
        journal: Journal,
        items: Sequence[Item],
        programs: SlurmPrograms | None = None,
    ) -> SlurmRun:
        """Write down a new run; nothing is submitted yet.

        Parameters
        ----------
        folder
            Of the run; made if absent.
        journal
            A new one.
        items
            The tomograms, each name once; for a command that takes none, one item without a
            filename.
        programs
            Slurm.

        Raises
        ------
        SlurmError
            When the settings cannot be right.
        OSError
            When the folder cannot be written.
        """
        journal.settings.check()
        run = cls(folder, journal, programs or SlurmPrograms())
        run.add(items)
        return run

    @classmethod
    def open(
        cls,
        folder: Path,
        programs: SlurmPrograms | None = None,
        *,
        is_read_only: bool = False,
    ) -> SlurmRun:
        """Take up a run again, after its follower or the whole computer was gone.

        Raises
        ------
        OSError, ValueError
            As :meth:`Journal.read`.
        """
        journal = Journal.read(folder)
        return cls(folder, journal, programs or SlurmPrograms(), is_read_only=is_read_only)

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody, perhaps in another process, has cancelled the run."""
        return (self.folder / CANCEL_FILE).exists()

    def array_folder(self, submission: Submission) -> Path:
        """Where an array's plan, script and logs are."""
        return self.folder / f"array_{submission.number:03d}"

    def plan_of(self, submission: Submission) -> ArrayPlan:
        """What the tasks of an array compute."""
        return ArrayPlan.read(self.array_folder(submission) / TASK_FILE)

    def save(self) -> None:
        """Write the journal."""
        if not self.is_read_only:
            self.journal.write(self.folder)

    def add(self, items: Sequence[Item]) -> None:
        """Plan arrays for further tomograms, such as those that have just been recorded."""
        self.plan(tasks_of(items, self.journal.per_task))
        self.save()

    def plan(
        self,
        tasks: Sequence[Task],
        *,
        is_retry: bool = False,
        memory_failures: int = 0,
        gpu_memory_failures: int = 0,
        avoid: Sequence[str] = (),
    ) -> None:
        """Plan arrays, without writing the journal.

        Parameters
        ----------
        tasks
            What the arrays' tasks compute.
        is_retry
            Whether the tomograms were planned before.
        memory_failures, gpu_memory_failures
            How often the computer's memory, or the GPU's, was short for them.
        avoid
            Nodes that they shall not run on.
        """
        journal = self.journal
        largest = min(self.programs.largest_array(), journal.largest or LARGEST_ARRAY)
        for part in arrays_of(tasks, largest):
            number = len(journal.submissions) + 1
            submission = Submission(
                number,
                f"{journal.name}-{number}",
                n_tasks=len(part),
                n_tomograms=sum(len(task) for task in part),
                after=[one.number for one in journal.active][-1:] if journal.settings.cap else [],
                more_memory=MORE_MEMORY**memory_failures,
                avoid=list(avoid),
                is_retry=is_retry,
            )
            plan = self._plan_of(part, is_retry, memory_failures + gpu_memory_failures)
            forget_unfinished(plan.status_folder, (item.stem for item in plan.items))
            self.write_array(submission, plan)
            journal.submissions.append(submission)

    def _plan_of(self, tasks: Sequence[Task], is_retry: bool, n_smaller: int) -> ArrayPlan:
        journal = self.journal
        return ArrayPlan(
            command=journal.command,
            options=(is_retry and journal.restart_options) or journal.options,
            status_folder=Path(journal.status_folder),
            tasks=tasks,
            restart_options=journal.restart_options,
            memory_share=SMALLER_TILES**n_smaller,
        )

    def write_array(self, submission: Submission, plan: ArrayPlan) -> None:
        """Make an array's folder, with its plan in it."""
        folder = self.array_folder(submission)
        for name in (LOGS, ENDS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        plan.write(folder / TASK_FILE)

    def refuse(self, error: Exception) -> None:
        """Give up what is planned, because Slurm will never take it."""
        self._give_up_planned("not submitted", str(error))

    def cancel(self) -> None:
        """Cancel all jobs and all further attempts; whoever follows the run settles the rest.

        Raises
        ------
        SlurmError
            When Slurm does not answer: then jobs that run already go on.
        """
        write_text(self.folder / CANCEL_FILE, "")
        self.programs.cancel([one.job_id for one in self.journal.active if one.job_id])
        for submission in self.journal.active:
            if not submission.job_id:
                self.programs.cancel(name=submission.name)

    def give_up_cancelled(self) -> None:
        """Settle what a cancelled run has not submitted."""
        for failure in self.journal.failures.values():
            if failure.is_waiting:
                failure.is_waiting, failure.is_final = False, True
        self._give_up_planned(CANCELLED, "The run was cancelled before this was submitted.")

    def _give_up_planned(self, reason: str, text: str) -> None:
        self.journal.refusal = ""
        for submission in self.journal.active:
            if submission.state == PLANNED:
                submission.state = SETTLED
                for item in self.plan_of(submission).items:
                    self.journal.failures[item.stem] = Failure(
                        item.attempt, reason, text, item.filename, submission.number
                    )
        self.save()
