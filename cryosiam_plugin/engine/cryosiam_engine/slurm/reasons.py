"""Why a tomogram has no result, and whether it is worth another try."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping

from .squeue import LAUNCH_FAILED

OUT_OF_MEMORY = "out of memory"
GPU_MEMORY = "GPU out of memory"
TIME_LIMIT = "time limit"
NODE_FAILURE = "node failure"
PREEMPTED = "preempted"
CANCELLED = "cancelled"
DEVICE = "no working GPU"
DISK = "writing failed"
BUSY = "in use"
KILLED = "killed"
ENGINE = "engine error"
LOST = "no result"

#: What may go well at another time, on another node or with smaller tiles.
RETRIED = frozenset(
    {OUT_OF_MEMORY, GPU_MEMORY, TIME_LIMIT, NODE_FAILURE, PREEMPTED}
    | {DEVICE, DISK, BUSY, KILLED, LOST}
)

#: What the node may be to blame for.
OF_THE_NODE = frozenset({NODE_FAILURE, DEVICE, DISK})

_REMEDIES = {
    OUT_OF_MEMORY: "Give the tasks more memory ({memory}).",
    TIME_LIMIT: "Give the tasks more time ({time}), or fewer tomograms each ({per_task}).",
    NODE_FAILURE: "Ask the cluster's administrators about the node, or leave it out "
    "(--exclude=NODE, by {options}).",
    PREEMPTED: "Use a partition or QOS whose jobs are not pushed aside ({partition}, {qos}).",
    CANCELLED: "Somebody cancelled it; {again} computes it after all.",
    KILLED: "Most often memory ran out: give the tasks more ({memory}).",
    LOST: "See the task's log.",
}

_BY_STATE = {
    "OUT_OF_MEMORY": OUT_OF_MEMORY,
    "TIMEOUT": TIME_LIMIT,
    "DEADLINE": TIME_LIMIT,
    "NODE_FAIL": NODE_FAILURE,
    "BOOT_FAIL": NODE_FAILURE,
    "PREEMPTED": PREEMPTED,
    "CANCELLED": CANCELLED,
    "REVOKED": CANCELLED,
}
#: What Slurm's helper on the node writes into a job's log; the last of them counts.
_BY_LOG = (
    (r"exceeded (job )?memory limit|oom.?kill|out.of.memory", OUT_OF_MEMORY),
    (r"CANCELLED AT \S+ DUE TO TIME LIMIT", TIME_LIMIT),
    (r"CANCELLED AT \S+ DUE TO NODE FAILURE", NODE_FAILURE),
    (r"CANCELLED AT \S+ DUE TO PREEMPTION", PREEMPTED),
)
_BY_ERROR = {"BusyError": BUSY, "OutputError": DISK, "DeviceError": DEVICE}
_MEMORY_WAS_SHORT = re.compile(r"out of memory|does not fit in the memory", re.IGNORECASE)
#: Error of a tomogram at which the engine was asked to stop.
INTERRUPTED = "interrupted"
#: As a shell gives it.
_SIGKILL = 128 + 9


@dataclass(frozen=True)
class TaskEnd:
    """What is known about a task that has ended.

    Attributes
    ----------
    state, reason
        Slurm's, such as ``FAILED`` and ``NonZeroExitCode``; empty where it has forgotten.
    exit_code
        The engine's, where the script wrote it down.
    asked_by
        The signal by which Slurm asked the script to stop; empty where it did not.
    last_words
        The end of the task's log.
    """

    state: str = ""
    reason: str = ""
    exit_code: int | None = None
    asked_by: str = ""
    last_words: str = ""


@dataclass(frozen=True)
class Words:
    """What a front end calls that which its user can change.

    Attributes
    ----------
    memory, time, per_task, partition, qos, options
        Its options or fields: of each task, tomograms of a task, and any other of sbatch.
    again
        What computes failed tomograms once more.
    """

    memory: str
    time: str
    per_task: str
    partition: str
    qos: str
    options: str
    again: str


@dataclass(frozen=True)
class Verdict:
    """Why a tomogram has no result.

    Attributes
    ----------
    reason
        In one or two words.
    text
        In a sentence. What to do about it is in there only where the engine itself said so; else
        see :func:`remedy`.
    """

    reason: str
    text: str

    @property
    def is_retried(self) -> bool:
        """Whether another try may help."""
        return self.reason in RETRIED

    @property
    def wants_another_node(self) -> bool:
        """Whether that try should be anywhere but on this node."""
        return self.reason in OF_THE_NODE

    @property
    def wants_less(self) -> bool:
        """Whether that try should be with smaller tiles and more memory."""
        return self.reason in (OUT_OF_MEMORY, KILLED)


def judge_error(error: Mapping[str, Any]) -> Verdict:
    """Judge what the engine says in a failed tomogram's status.

    Parameters
    ----------
    error
        ``type``, ``message`` and ``remedy``.
    """
    parts = (str(error.get("message", "")), str(error.get("remedy", "")))
    text = " ".join(part.strip() for part in parts if part.strip())
    reason = _BY_ERROR.get(str(error.get("type", "")), ENGINE)
    if _MEMORY_WAS_SHORT.search(parts[0]):
        reason = GPU_MEMORY if "cuda" in parts[0].lower() else OUT_OF_MEMORY
    return Verdict(reason, text or "The engine gave no reason.")


def judge_end(end: TaskEnd) -> Verdict:
    """Judge a task that ended without a word from the engine about the tomogram.

    Parameters
    ----------
    end
        All that is known.
    """
    reason = _reason_of(end)
    said = [f"Slurm says {end.state} ({end.reason})" if end.reason else f"Slurm says {end.state}"]
    if not end.state:
        said = ["Slurm has forgotten the task"]
    if end.exit_code is not None:
        said.append(f"exit code {end.exit_code}")
    if end.last_words and reason not in (TIME_LIMIT, CANCELLED, PREEMPTED):
        said.append(f"the log ends with: {end.last_words}")
    return Verdict(reason, f"{'; '.join(said)}.")


def remedy(reason: str, words: Words) -> str:
    """Say what to do about a reason; empty where only the engine can know.

    Parameters
    ----------
    reason
        Of a verdict.
    words
        Of the front end that its user sees.

    Examples
    --------
    >>> remedy(OUT_OF_MEMORY, Words("--mem", "", "", "", "", "", ""))
    'Give the tasks more memory (--mem).'
    """
    return _REMEDIES.get(reason, "").format(**vars(words))


def _reason_of(end: TaskEnd) -> str:
    if LAUNCH_FAILED in end.reason:
        return NODE_FAILURE
    found = [(pattern, reason) for pattern, reason in _BY_LOG if _says(end, pattern)]
    if end.state in ("FAILED", "CANCELLED", "") and found:
        return found[0][1]
    if end.state in _BY_STATE:
        return _BY_STATE[end.state]
    if end.asked_by == "USR1":
        return TIME_LIMIT
    if end.exit_code == _SIGKILL:
        return KILLED
    if end.asked_by == "TERM":
        return CANCELLED
    if end.reason == "JobLaunchFailure":
        return NODE_FAILURE
    return LOST if end.exit_code in (None, 0, 1) else ENGINE


def _says(end: TaskEnd, pattern: str) -> bool:
    return re.search(pattern, end.last_words, re.IGNORECASE) is not None
