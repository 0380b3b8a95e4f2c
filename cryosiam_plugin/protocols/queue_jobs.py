"""Steps and protocols as jobs of Scipion's queue: what they get, and why they ended."""

from __future__ import annotations

import copy
import re
import threading
from pathlib import Path
from typing import Any

from pyworkflow.utils import removeExt

from cryosiam_plugin.slurm_core import TaskEnd, judge_end, last_words

#: As our template for Slurm has it at the end of a job's log.
_EXIT_CODE = r"ended with exit code (\d+)"
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
    return f"The job was ended ({reason}); its log ends with: {said}"


def explained_failure(protocol: Any, message: str) -> str:
    """Add to Scipion's message about a protocol's job that has gone what the job's log says."""
    if _JOB_IS_GONE not in (message or ""):
        return message
    why = why_ended(Path(protocol.getSubmitDict().get("JOB_LOGS", "")))
    return f"{message} {why} Press Continue: finished tomograms are not computed again.".strip()
