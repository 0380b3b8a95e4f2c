"""Steps and protocols as jobs of Scipion's queue: what they get, and why they ended."""

from __future__ import annotations

import copy
import re
import threading
from pathlib import Path
from typing import Any, Mapping, Sequence

from pyworkflow.utils import removeExt

from cryosiam_plugin.launcher import VISIBLE_GPUS
from cryosiam_plugin.slurm_core import TaskEnd, Words, judge_end, last_words, remedy

#: As our template for Slurm has it at the end of a job's log.
_EXIT_CODE = r"ended with exit code (\d+)"
#: What our queue's questions call that which the reasons of failures are about.
QUESTIONS = Words(
    memory="'Memory of each job'",
    time="'Time limit of each job'",
    per_task="'Tomograms per engine process'",
    partition="'Submit to queue'",
    qos="'QOS'",
    options="'Options of sbatch'",
    again="_Continue_",
)
#: What Slurm gave a job, of which each of its processes must take a part only.
_SHARED = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_PER_TASK")
#: In Scipion's words for a job that has gone.
_JOB_IS_GONE = "not found running on the queue engine"


def run_as_job(executor: Any, log: Any, command: tuple[str, str], *, n_gpus: int) -> Path:
    """Run a command as a job of its own, and wait for its end.

    Parameters
    ----------
    executor
        Scipion's, of the steps; this is called from one of its threads.
    log
        Scipion's logger.
    command
        Program and arguments.
    n_gpus
        GPUs that this job is to have: the executor asks for the same number for every job.

    Returns
    -------
    Path
        The job's logs, without their endings.
    """
    mine = copy.copy(executor)
    mine.submitDict = {**executor.submitDict, "GPU_COUNT": n_gpus}
    mine.runJob(log, *command, numberOfMpi=1, numberOfThreads=1)
    script = Path(removeExt(mine.submitDict["JOB_SCRIPT"])).absolute()
    step = threading.current_thread().thId  # type: ignore[attr-defined]
    return script.parent / f"{mine.submitDict['JOB_NAME']}-{step}-{mine.threadCommands[step]}"


def _listed(gpus: str | None) -> list[str]:
    return [one.strip() for one in (gpus or "").split(",") if one.strip()]


def exit_code_of(logs: Path) -> int | None:
    """The exit code that a job's template wrote into its log; None where it wrote none."""
    found = re.findall(_EXIT_CODE, last_words(Path(f"{logs}.err")))
    return int(found[-1]) if found else None


def why_ended(logs: Path) -> str:
    """Why a job ended before its time, with the end of its log; empty if nothing says so."""
    said = last_words(Path(f"{logs}.err"))
    if not said or re.search(_EXIT_CODE, said):
        return ""
    # Without an exit code the script itself was killed; what Slurm says about it is in the log.
    state = "CANCELLED" if "CANCELLED AT" in said else "FAILED"
    reason = judge_end(TaskEnd(state=state, last_words=said)).reason
    advice = remedy(reason, QUESTIONS)
    return f"The job was ended ({reason}); its log ends with: {said} {advice}".strip()


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
    """Add to Scipion's message about a protocol's job that has gone what the job's log says."""
    if _JOB_IS_GONE not in (message or ""):
        return message
    why = why_ended(Path(protocol.getSubmitDict().get("JOB_LOGS", "")))
    return f"{message} {why} Press Continue: finished tomograms are not computed again.".strip()
