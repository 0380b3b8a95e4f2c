"""Planned arrays become jobs; none is lost and none is submitted twice, whatever crashes."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Callable, Sequence

from .dividing import cut_plan, divide
from .errors import TOO_LARGE, TOO_MANY, SlurmError
from .files import write_text
from .journal import PLANNED, SETTLED, SUBMITTED, SUBMITTING, Submission
from .programs import SUBMIT_PATIENCE
from .run import SlurmRun
from .script import JOB_ID, ArrayJob, sbatch_script
from .squeue import QueueView

logger = logging.getLogger(__name__)

SCRIPT = "job.sh"

#: Seconds after which a job whose submission got no answer, and that is in no queue, is not coming.
LATE_ANSWER = 20.0
#: The same where nobody saw sbatch end: its follower was killed, and it may try on for this long.
ORPHANED = SUBMIT_PATIENCE + LATE_ANSWER
#: Seconds before a submission that Slurm would not take is tried again.
SUBMIT_AGAIN = 30.0
#: Refusals with an empty queue after which an array is taken to be too large for ever.
PATIENT_REFUSALS = 2


class Offers:
    """Offers planned arrays to Slurm, again and again where it does not take them yet.

    Parameters
    ----------
    run
        The run; nobody else may submit for it.
    clock
        Seconds that only ever grow.
    """

    def __init__(self, run: SlurmRun, clock: Callable[[], float]) -> None:
        self._run = run
        self._clock = clock
        self._again_at = 0.0
        self._refusals = 0

    def make(self) -> None:
        """Submit what is planned, if it is time for that.

        Raises
        ------
        SlurmError
            When Slurm will never take it.
        """
        if self._clock() < self._again_at:
            return
        try:
            submit_planned(self._run)
        except SlurmError as error:
            self._take_refusal(error)
            return
        self._refusals = 0
        self._note("")

    def _take_refusal(self, error: SlurmError) -> None:
        if self._is_too_large(error):
            self._halve(error)
            return  # at the next look the halves are offered
        if not error.passing:
            raise error
        self._again_at = self._clock() + SUBMIT_AGAIN
        self._note(error.message)

    def _is_too_large(self, error: SlurmError) -> bool:
        """Whether a smaller array may be taken where this one never will be."""
        if error.limit != TOO_MANY:
            return error.limit == TOO_LARGE
        self._refusals = 0 if self._run.programs.has_jobs() else self._refusals + 1
        # Once may be chance: jobs that have just ended may still be counted.
        return self._refusals >= (1 if self._run.journal.largest else PATIENT_REFUSALS)

    def _halve(self, error: SlurmError) -> None:
        first = next(one for one in self._run.journal.active if one.state == PLANNED)
        if first.n_tasks == 1 and error.limit == TOO_LARGE:
            raise error
        if first.n_tasks == 1:
            raise SlurmError(
                f"{error.message} There are no other jobs of yours, and this is a single task.",
                remedy="Your account or QOS may submit no job at all: ask the cluster's "
                "administrators for its MaxSubmitJobs, or use another account or QOS.",
                about=("account", "qos"),
            )
        divide(self._run, -(-first.n_tasks // 2))
        logger.warning("%s The array is divided.", error.message)

    def _note(self, refusal: str) -> None:
        if refusal != self._run.journal.refusal:
            self._run.journal.refusal = refusal
            self._run.save()
            if refusal:
                logger.warning("Slurm takes no further jobs now; this is tried again. %s", refusal)


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
        late = LATE_ANSWER if submission.number in run.answered else ORPHANED
        if submission.name in view:
            _is_in_queue(run, submission, view[submission.name].job_id)
        elif time.time() - submission.submitted > late:
            submission.state = PLANNED
            run.save()


def end_twins(run: SlurmRun, view: QueueView) -> None:
    """Cancel what sbatch submitted after its follower was gone, and another one in its place.

    Parameters
    ----------
    run
        The run.
    view
        What squeue says now about the names of all active submissions.
    """
    ids = [
        array.job_id
        for one in run.journal.active
        if one.job_id and one.name in view
        for array in (view[one.name], *view[one.name].twins)
        if array.job_id != one.job_id and array.goes_on
    ]
    if not ids or run.is_read_only:
        return
    logger.warning("Submitted twice by a crash; these are cancelled: %s.", ", ".join(ids))
    try:
        run.programs.cancel(ids)
    except SlurmError as error:
        logger.warning("They will be at the next look. %s", error)


def _dependencies(run: SlurmRun, submission: Submission) -> list[str] | None:
    """Ids of the jobs that it waits for; None while one has no id yet."""
    before = [run.journal.submissions[number - 1] for number in submission.after]
    before = [one for one in before if one.state != SETTLED]
    return None if any(not one.job_id for one in before) else [one.job_id for one in before]


def _submit(run: SlurmRun, submission: Submission, dependencies: Sequence[str]) -> None:
    cut_plan(run, submission)
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
        job_id = run.programs.submit(script)
    except SlurmError as error:
        run.answered.add(submission.number)
        if error.passing and not error.limit:
            raise  # perhaps it is in the queue all the same
        submission.state = PLANNED
        run.save()
        if error.limit or (submission.more_memory <= 1 and not submission.avoid):
            raise
        # No node has so much, or no other one is left: smaller tiles alone, or luck, must do.
        submission.more_memory, submission.avoid = 1.0, []
        _submit(run, submission, dependencies)
        return
    _is_in_queue(run, submission, job_id)


def _is_in_queue(run: SlurmRun, submission: Submission, job_id: str) -> None:
    submission.state, submission.job_id = SUBMITTED, job_id
    run.save()
    # Where the tasks of a twin see that they are not wanted.
    write_text(run.array_folder(submission) / JOB_ID, job_id)
