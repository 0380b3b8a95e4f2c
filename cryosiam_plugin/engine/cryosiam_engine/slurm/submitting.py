"""Planned arrays become jobs; none is lost and none is submitted twice, whatever crashes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Sequence

from .errors import SlurmError
from .files import write_text
from .journal import PLANNED, SETTLED, SUBMITTED, SUBMITTING, Submission
from .run import SlurmRun
from .script import ArrayJob, sbatch_script
from .squeue import QueueView

SCRIPT = "job.sh"

#: Seconds after which a job whose submission got no answer, and that is in no queue, is not coming.
LATE_ANSWER = 20.0


def submit_planned(run: SlurmRun) -> None:
    """Submit what is planned, as far as Slurm takes it now.

    Raises
    ------
    SlurmError
        When it takes no more. If that is `passing`, call again later.
    """
    for submission in run.journal.submissions:
        if submission.state == PLANNED:
            dependencies = _dependencies(run, submission)
            if dependencies is None:
                return
            _submit(run, submission, dependencies)


def recover(run: SlurmRun, view: QueueView) -> None:
    """Find the jobs whose submission was cut off; plan again those that never came to be.

    Parameters
    ----------
    run
        The run.
    view
        What squeue says now about the names of all active submissions.
    """
    for submission in run.journal.active:
        if submission.state != SUBMITTING:
            continue
        if submission.name in view:
            submission.state = SUBMITTED
            submission.job_id = view[submission.name].job_id
            run.save()
        elif time.time() - submission.submitted > LATE_ANSWER:
            submission.state = PLANNED
            run.save()


def _dependencies(run: SlurmRun, submission: Submission) -> list[str] | None:
    """Ids of the jobs that it waits for; None while one has no id yet."""
    before = [run.journal.submissions[number - 1] for number in submission.after]
    before = [one for one in before if one.state != SETTLED]
    return None if any(not one.job_id for one in before) else [one.job_id for one in before]


def _submit(run: SlurmRun, submission: Submission, dependencies: Sequence[str]) -> None:
    script = run.array_folder(submission) / SCRIPT
    job = ArrayJob(
        name=submission.name,
        folder=script.parent,
        work_folder=Path(run.journal.work_folder),
        n_tasks=submission.n_tasks,
        engine=run.journal.engine,
        after=dependencies,
        requeues=run.journal.requeues,
        avoid=submission.avoid,
    )
    settings = run.journal.settings.with_more_memory(submission.more_memory)
    write_text(script, sbatch_script(settings, job))
    # Written down before and after: a crash in between leaves a job that is found by its name.
    submission.state, submission.submitted = SUBMITTING, time.time()
    run.save()
    try:
        submission.job_id = run.programs.submit(script)
    except SlurmError as error:
        if error.passing:
            raise
        submission.state = PLANNED
        run.save()
        if submission.more_memory <= 1 and not submission.avoid:
            raise
        # No node has so much, or no other one is left: smaller tiles alone, or luck, must do.
        submission.more_memory, submission.avoid = 1.0, []
        _submit(run, submission, dependencies)
        return
    submission.state = SUBMITTED
    run.save()
