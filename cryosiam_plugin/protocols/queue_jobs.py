"""Steps and protocols as jobs of Scipion's queue: what they get, and why they ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Mapping, Sequence

from cryosiam_plugin.launcher import VISIBLE_GPUS
from cryosiam_plugin.protocols.queue_commands import QueueCommands
from cryosiam_plugin.slurm_core import (
    TaskEnd,
    Words,
    advice,
    judge_end,
    last_words,
    refusal,
    remedy,
)

#: As our template for Slurm has it at the beginning and at the end of a job's log.
_BEGINNING, _EXIT_CODE = r"Job \d+ on \S+", r"ended with exit code (\d+)"
#: What our queue's questions call that which the reasons of failures are about.
QUESTIONS = Words(
    memory="'Memory of each job'",
    time="'Time limit of each job'",
    per_task="'Tomograms per engine process'",
    partition="'Submit to queue'",
    qos="'QOS'",
    options="'Options of sbatch'",
    again="_Continue_",
    account="'Account'",
    gpus="'GPU type'",
    cpus="'CPUs of each job'",
)
#: Exit codes from here on are those of signals.
_BY_SIGNAL = 128
#: Of a job that ended by itself.
_ORDERLY = ("COMPLETED", "FAILED")
#: What Slurm gave a job, of which each of its processes must take a part only.
_SHARED = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_PER_TASK")
#: In Scipion's words for a job that was not taken, and for one that has gone.
_NOT_TAKEN = "problem submitting this protocol"
_JOB_IS_GONE = "not found running on the queue engine"


def _listed(gpus: str | None) -> list[str]:
    return [one.strip() for one in (gpus or "").split(",") if one.strip()]


def exit_code_of(logs: Path) -> int | None:
    """The exit code that a job's template wrote into its log; None where it wrote none."""
    found = re.findall(_EXIT_CODE, _said_last(logs))
    return int(found[-1]) if found else None


def is_orderly(code: int | None) -> bool:
    """Whether a job with this exit code ended by itself: one that was killed may begin again."""
    return code is not None and code < _BY_SIGNAL


def _said_last(logs: Path) -> str:
    """The end of a job's log, without what it said before the queue began it anew."""
    return re.split(_BEGINNING, last_words(Path(f"{logs}.err")))[-1]


def why_ended(logs: Path, state: str = "") -> str:
    """Why a job ended before its time, with the end of its log; empty if nothing says so.

    Parameters
    ----------
    logs
        The job's, without their endings.
    state
        Slurm's word for its end, where that is known.
    """
    said = last_words(Path(f"{logs}.err"))
    if state in _ORDERLY or not (state or said) or (not state and exit_code_of(logs) is not None):
        return ""
    # Without an exit code the script itself was killed; what Slurm says about it is in the log.
    state = state or ("CANCELLED" if "CANCELLED AT" in said else "FAILED")
    reason = judge_end(TaskEnd(state=state, last_words=said)).reason
    told = f"its log ends with: {said}" if said else "it had not begun."
    return f"The job was ended ({reason}); {told} {remedy(reason, QUESTIONS)}".strip()


def is_yes(answer: str) -> bool:
    """Whether somebody means yes, by whatever he wrote into a field of the queue's questions."""
    return answer.strip().lower() in ("y", "yes", "true", "1")


def shares_of_job(environ: Mapping[str, str], gpu_ids: str | None) -> dict[str, str]:
    """What one of several engine processes in a job may take for its own of what the job has.

    Parameters
    ----------
    environ
        The job's environment.
    gpu_ids
        Of this process, as :func:`gpus_of_step` gives them: its share of CPUs and memory is as
        large as that of the GPUs.

    Returns
    -------
    dict of str to str
        Variables that take the place of Slurm's; none where there is nothing to share.
    """
    n_processes = len(_listed(environ.get(VISIBLE_GPUS))) // (len(_listed(gpu_ids)) or 1)
    numbers = {name: environ.get(name, "") for name in _SHARED}
    return {
        name: str(max(1, int(text) // n_processes))
        for name, text in numbers.items()
        if gpu_ids and n_processes > 1 and text.isdecimal() and int(text)
    }


def gpus_of_step(slot: Sequence[int], environ: Mapping[str, str]) -> str | None:
    """The GPUs of one step among those that the queue gave to the protocol's job.

    Parameters
    ----------
    slot
        The step's, as Scipion counts them within the job: from 0.
    environ
        The job's environment.

    Returns
    -------
    str or None
        As CUDA_VISIBLE_DEVICES has them; None where the queue does not say what the job has.
    """
    given = _listed(environ.get(VISIBLE_GPUS))
    mine = [given[number] for number in slot if 0 <= number < len(given)]
    return ",".join(mine) or None


def explained_failure(protocol: Any, message: str) -> str:
    """Add to Scipion's message about a protocol's job why that was not taken, or has gone."""
    if _NOT_TAKEN in (message or ""):
        error = refusal("sbatch", message)
        again = "The queue did not answer: try again." if error.passing else ""
        return f"{message} {advice(error, QUESTIONS)}{again}".strip()
    if _JOB_IS_GONE not in (message or ""):
        return message
    found = re.search(r"JOB ID (\d+)", message)
    state = QueueCommands(protocol.getHostConfig()).ended_as(found.group(1)) if found else ""
    why = why_ended(Path(protocol.getSubmitDict().get("JOB_LOGS", "")), state)
    return f"{message} {why} Press Continue: finished tomograms are not computed again.".strip()
