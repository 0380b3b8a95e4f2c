"""Jobs of a queue from their submission to their end, whatever the queue says meanwhile."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, Mapping, Sequence

from cryosiam_plugin.protocols.job_records import CANCELLED, ENDED, QUEUED, SUBMITTING, JobRecord
from cryosiam_plugin.protocols.queue_commands import QueueCommands, name_in
from cryosiam_plugin.protocols.queue_jobs import exit_code_of, is_orderly
from cryosiam_plugin.slurm_core import SlurmError, poll_interval

logger = logging.getLogger(__name__)

#: Seconds before what the queue would not take is submitted again. Only later than that a job is
#: not coming any more of whose submission nobody knows.
SUBMIT_AGAIN = 20.0
#: Seconds for which a job is submitted again: a limit on jobs may hold for hours.
SUBMIT_PATIENCE = 24 * 3600.0
#: Seconds between two looks at a job's log, and before a job is asked for again that is missing.
LOG_SECONDS, SECOND_LOOK = 1.0, 5.0


def submit(queue: QueueCommands, job: JobRecord, values: Mapping[str, Any]) -> None:
    """Submit a job; when the queue does not answer now, try again.

    Parameters
    ----------
    queue
        The queue.
    job
        Gets its name and its id.
    values
        What the templates of the queue are filled in with.

    Raises
    ------
    SlurmError
        When the queue refuses.
    """
    text = queue.script(values)
    Path(values["JOB_SCRIPT"]).write_text(text, encoding="utf-8")
    job.name = name_in(text)
    # Written down before and after: a crash in between leaves a job that is found by its name.
    job.note(SUBMITTING)
    end = time.monotonic() + SUBMIT_PATIENCE
    is_known = True
    while not job.job_id:
        try:
            if not is_known:
                job.job_id = queue.find(job.name)
                is_known = True
            job.job_id = job.job_id or queue.submit(values)
        except SlurmError as error:
            # While it is not known whether the last one was taken, it may have been.
            if (is_known and not error.passing) or time.monotonic() > end:
                job.note(ENDED if is_known else SUBMITTING)
                raise
            is_known = bool(error.limit)
            logger.warning("The queue takes no job now; this is tried again. %s", error)
            time.sleep(SUBMIT_AGAIN)
    job.note(QUEUED)
    logger.info("Job %s (%s).", job.job_id, job.name or job.command)


def await_end(queue: QueueCommands, job: JobRecord, *, n_jobs: int = 1) -> None:
    """Wait for a job's end.

    The log of a job that ends in an orderly way says so: the queue is asked for the others only.

    Parameters
    ----------
    queue
        The queue.
    job
        In the queue.
    n_jobs
        Jobs that are waited for at the same time: the queue gets no more than a question a second.
    """
    began = asked = time.monotonic()
    is_missing = False
    while True:
        if is_orderly(exit_code_of(Path(job.logs))):
            return
        now = time.monotonic()
        pause = SECOND_LOOK if is_missing else max(poll_interval(now - began), n_jobs)
        if now - asked >= pause:
            asked = now
            # A queue that is silent for once has forgotten nothing.
            was_missing, is_missing = is_missing, not queue.is_there(job.job_id)
            if was_missing and is_missing:
                return
        time.sleep(LOG_SECONDS)


def is_there(queue: QueueCommands, job: JobRecord) -> bool:
    """Whether a job is in the queue, found by its name if its id was lost.

    Raises
    ------
    SlurmError
        When the queue does not answer.
    """
    if not job.job_id:
        job.job_id = queue.find(job.name)
    return bool(job.job_id) and queue.is_there(job.job_id)


def cancel_jobs(queue: QueueCommands, jobs: Sequence[JobRecord]) -> None:
    """Cancel jobs, without waiting for their end.

    Raises
    ------
    SlurmError
        When the queue does not answer.
    """
    for job in jobs:
        job.note(CANCELLED)
    for job in jobs:
        if is_there(queue, job):
            queue.cancel(job.job_id)


def end_jobs(queue: QueueCommands, jobs: Sequence[JobRecord], seconds: float) -> None:
    """Cancel jobs, and wait until none of them is left.

    Raises
    ------
    SlurmError
        When the queue does not answer, or they go on all the same.
    """
    end = time.monotonic() + seconds
    cancel_jobs(queue, jobs)
    left = list(jobs)
    while left:
        for job in [job for job in left if not is_there(queue, job)]:
            job.note(ENDED)
            left.remove(job)
        if left and time.monotonic() > end:
            ids = ", ".join(job.job_id for job in left)
            raise SlurmError(f"Jobs {ids} were cancelled, but they have not ended.")
        time.sleep(min(1.0, len(left)))
