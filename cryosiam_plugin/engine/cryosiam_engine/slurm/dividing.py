"""Arrays that are too large for Slurm become several smaller ones."""

from __future__ import annotations

from dataclasses import replace

from .journal import PLANNED, Submission
from .plan import arrays_of
from .run import SlurmRun


def divide(run: SlurmRun, largest: int) -> None:
    """Make planned arrays smaller, and all that will be planned.

    Parameters
    ----------
    run
        The run.
    largest
        Tasks that an array may have.
    """
    journal = run.journal
    journal.largest = largest
    for submission in journal.active:
        if submission.state == PLANNED and submission.n_tasks > largest:
            cut_plan(run, submission)
            plan = run.plan_of(submission)
            first, *others = arrays_of(plan.tasks, largest)
            for part in others:
                piece = replace(plan, tasks=part)
                run.write_array(_further(run, submission, len(part), len(piece.items)), piece)
            # Its plan stays as it is until the journal knows of the others: see `cut_plan`.
            submission.n_tasks = len(first)
            submission.n_tomograms = len(replace(plan, tasks=first).items)
    run.save()


def cut_plan(run: SlurmRun, submission: Submission) -> None:
    """Leave in an array's plan only what is in no other array, before it is submitted."""
    plan = run.plan_of(submission)
    if len(plan.tasks) > submission.n_tasks:
        run.write_array(submission, replace(plan, tasks=plan.tasks[: submission.n_tasks]))


def _further(run: SlurmRun, like: Submission, n_tasks: int, n_tomograms: int) -> Submission:
    journal = run.journal
    number = len(journal.submissions) + 1
    submission = replace(
        like,
        number=number,
        name=f"{journal.name}-{number}",
        after=[journal.active[-1].number] if journal.settings.cap else [],
        n_tasks=n_tasks,
        n_tomograms=n_tomograms,
    )
    journal.submissions.append(submission)
    return submission
