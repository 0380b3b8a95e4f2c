"""The text of a job script: a function of its arguments alone."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from .errors import SlurmError
from .options import written_option, written_options
from .plan import TASK_FILE
from .reasons import BEGINS
from .settings import JobSettings

LOGS = "logs"
#: Where a task that failed leaves its exit code: without accounting Slurm forgets it soon.
ENDS = "ends"
#: In an array's folder: which job computes it, once that is known.
JOB_ID = "job_id"
#: In the run's folder: tells tasks and whoever follows the run that it is cancelled.
CANCEL_FILE = "CANCELLED"

_BODY = """\
child=
asked=
# The engine notes how far it is and ends; what is finished is not computed again.
ask() {{
    asked=$1
    if [ -n "$child" ]; then kill -{stop} "$child" 2>/dev/null; fi
}}
trap 'ask USR1' USR1
trap 'ask TERM' TERM
array={folder}
task=$SLURM_ARRAY_TASK_ID
job=$(cat "$array/{job_id}" 2>/dev/null)
if [ -n "$job" ] && [ "$job" != "$SLURM_ARRAY_JOB_ID" ]; then
    echo "This was submitted twice: job $job computes it." >&2
    exit 1
fi
if [ -e "${{array%/*}}/{cancelled}" ]; then
    echo "The run is cancelled." >&2
    exit 1
fi
echo "{begins} ${{SLURMD_NODENAME:-$(hostname)}}." >&2
rm -f "$array/{ends}/$task"
if ! cd {work_folder}; then
    echo "126 " >"$array/{ends}/$task"
    exit 126
fi
{start}{engine} slurm run-task "$array/{task_file}" &
child=$!
if [ -n "$asked" ]; then kill -{stop} "$child" 2>/dev/null; fi
code=127
for _ in 1 2 3 4 5 6 7 8; do
    # A signal that we caught ends wait too: then there is nothing yet to know of the engine.
    wait "$child"
    now=$?
    if [ "$now" -eq 127 ]; then break; fi
    code=$now
    if [ "$now" -le 128 ]; then break; fi
done
restarts=${{SLURM_RESTART_COUNT:-0}}
if [ "$code" -ne 0 ] && [ "$asked" = USR1 ] && [ "$restarts" -lt {requeues} ]; then
    echo "The time limit is near: this task is queued again." >&2
    scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
if [ "$code" -ne 0 ]; then echo "$code $asked" >"$array/{ends}/$task"; fi
exit "$code"
"""
# Since Slurm 22.05 srun no longer takes over the number of CPUs. Asked for by task, each process
# would see one GPU only, and call it the first.
_SRUN = (
    "env -u SLURM_GPUS_PER_TASK -u SLURM_TRES_PER_TASK srun --kill-on-bad-exit=1 "
    "${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} "
)


@dataclass(frozen=True)
class ArrayJob:
    """What makes one array's script different from another's.

    Attributes
    ----------
    name
        The job's name; no other job of this user has it.
    folder
        Where the array's files are, on a file system that the nodes share.
    work_folder
        Where the engine is started: relative paths in the configuration start there.
    n_tasks
        Tasks, numbered from 0.
    engine
        The words of a shell line that start ``cryosiam-engine``, quoted.
    after
        Ids of jobs that must have ended before this begins.
    requeues
        Times that a task may queue itself again when its time is nearly up.
    avoid
        Nodes that were to blame for an earlier failure.
    """

    name: str
    folder: Path
    work_folder: Path
    n_tasks: int
    engine: str
    after: Sequence[str] = ()
    requeues: int = 2
    avoid: Sequence[str] = ()


def sbatch_script(settings: JobSettings, job: ArrayJob) -> str:
    """Write the job script of an array.

    Parameters
    ----------
    settings
        What each task asks for.
    job
        The array.

    Raises
    ------
    SlurmError
        When the folder's name cannot stand in a script.
    """
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in _options(settings, job)), ""]
    start, stop = "", "TERM"
    if settings.nodes * settings.processes > 1:
        # srun hands USR1 on to the engine; at TERM it would kill it.
        start, stop = _SRUN, "USR1"
    body = _BODY.format(
        work_folder=shlex.quote(str(job.work_folder)),
        folder=shlex.quote(str(job.folder)),
        start=start,
        stop=stop,
        engine=job.engine,
        begins=BEGINS,
        ends=ENDS,
        job_id=JOB_ID,
        cancelled=CANCEL_FILE,
        task_file=TASK_FILE,
        requeues=job.requeues,
    )
    return "\n".join([*lines, body])


def _options(settings: JobSettings, job: ArrayJob) -> Iterator[str]:
    """Options of sbatch, in the order in which a person would look for them."""
    cap = f"%{settings.cap}" if settings.cap else ""
    yield written_option("job-name", job.name)
    yield written_option("array", f"0-{job.n_tasks - 1}{cap}")
    for name, value in (
        ("partition", settings.partition),
        ("account", settings.account),
        ("qos", settings.qos),
        ("gres", settings.gres),
        ("gpus-per-task", settings.gpus_per_task),
        ("cpus-per-task", str(settings.cpus or "")),
        ("mem", settings.memory),
        ("time", settings.time),
    ):
        if value:
            yield written_option(name, value)
    if settings.nodes * settings.processes > 1:
        yield written_option("nodes", str(settings.nodes))
        yield written_option("ntasks-per-node", str(settings.processes))
    elif settings.gpus_per_task:
        yield written_option("ntasks", "1")  # without a number of tasks Slurm refuses GPUs per task
    if job.after:
        yield written_option("dependency", "afterany:" + ":".join(job.after))
        yield written_option("kill-on-invalid-dep", "yes")
    yield "--requeue"
    yield written_option("open-mode", "append")
    yield written_option("signal", f"B:USR1@{settings.warning_seconds}")
    yield written_option("output", _log_pattern(job.folder))
    yield from written_options(settings.extra, job.avoid)


def _log_pattern(folder: Path) -> str:
    """Where Slurm writes what a task says; %a is the task's number, %% a percent sign."""
    text = str(folder)
    if "\n" in text or "\\" in text:
        raise SlurmError(
            f"Slurm cannot write logs into {text!r}.",
            remedy="Choose a folder without a backslash or a line break in its name.",
        )
    return f"{text.replace('%', '%%')}/{LOGS}/%a.log"
