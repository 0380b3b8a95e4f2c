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
NOT_STARTED = "engine not started"
CRASHED = "crashed"
ENGINE = "engine error"
LOST = "no result"

#: What may go well at another time, on another node or with smaller tiles.
RETRIED = frozenset(
    {OUT_OF_MEMORY, GPU_MEMORY, TIME_LIMIT, NODE_FAILURE, PREEMPTED}
    | {DEVICE, DISK, BUSY, KILLED, NOT_STARTED, CRASHED, LOST}
)

#: What the node may be to blame for.
OF_THE_NODE = frozenset({NODE_FAILURE, DEVICE, DISK, NOT_STARTED, CRASHED})

_REMEDIES = {
    OUT_OF_MEMORY: "Give the tasks more memory ({memory}).",
    TIME_LIMIT: "Give the tasks more time ({time}), or fewer tomograms each ({per_task}).",
    NODE_FAILURE: "Ask the cluster's administrators about the node, or leave it out "
    "(--exclude=NODE, by {options}).",
    PREEMPTED: "Use a partition or QOS whose jobs are not pushed aside ({partition}, {qos}).",
    CANCELLED: "Somebody cancelled it; {again} computes it after all.",
    NOT_STARTED: "Put the engine and the run's folder where all nodes see them, or leave the node "
    "out (--exclude=NODE, by {options}).",
    CRASHED: "If it goes well elsewhere, leave the node out (--exclude=NODE, by {options}).",
    KILLED: "Most often memory ran out: give the tasks more ({memory}).",
    LOST: "See the task's log.",
}

_BY_STATE = {
    "OUT_OF_MEMORY": OUT_OF_MEMORY,
    **dict.fromkeys(("TIMEOUT", "DEADLINE"), TIME_LIMIT),
    **dict.fromkeys(("NODE_FAIL", "BOOT_FAIL"), NODE_FAILURE),
    "PREEMPTED": PREEMPTED,
    **dict.fromkeys(("CANCELLED", "REVOKED"), CANCELLED),
}
#: What the job script writes into its log at every start, before the node's name.
BEGINS = "This task begins on"
#: What Slurm's helper writes into it; the last since then counts.
_BY_LOG = (
    (r"exceeded (job )?memory limit|oom.?kill|(?<!cuda )(?<!error: )out.of.memory", OUT_OF_MEMORY),
    (r"cuda (error: )?out of memory", GPU_MEMORY),
    (r"CANCELLED AT \S+ DUE TO TIME LIMIT", TIME_LIMIT),
    (r"CANCELLED AT \S+ DUE TO NODE FAILURE", NODE_FAILURE),
    (r"CANCELLED AT \S+ DUE TO PREEMPTION", PREEMPTED),
)
_BY_ERROR = {"BusyError": BUSY, "OutputError": DISK, "DeviceError": DEVICE}
_BY_ERROR["MemoryError"] = _BY_ERROR["_ArrayMemoryError"] = OUT_OF_MEMORY
#: The engine's words, NumPy's, PyTorch's and C++'s.
_MEMORY_WAS_SHORT = re.compile(
    r"out of memory|does not fit in the memory|unable to allocate|can.?t allocate memory"
    r"|cannot allocate memory|not enough memory|DefaultCPUAllocator|bad_alloc",
    re.IGNORECASE,
)
#: Of a tomogram at which the engine was asked to stop.
INTERRUPTED = "interrupted"
#: Exit codes as a shell gives them; a container that cannot be started has 255.
_SIGKILL = 128 + 9
_NO_PROGRAM = (126, 127, 255)
#: Illegal instruction, abort, bus error, arithmetic, memory that is not there.
_FATAL = tuple(128 + number for number in (4, 6, 7, 8, 11))


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
    account, gpus, cpus
        Further ones, that Slurm may refuse.
    """

    memory: str
    time: str
    per_task: str
    partition: str
    qos: str
    options: str
    again: str
    account: str = ""
    gpus: str = ""
    cpus: str = ""


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
    def lacks_memory(self) -> bool:
        """Whether that try should be with smaller tiles and more memory."""
        return self.reason in (OUT_OF_MEMORY, KILLED)

    @property
    def lacks_gpu_memory(self) -> bool:
        """Whether that try should be with smaller tiles."""
        return self.reason == GPU_MEMORY


def judge_error(error: Mapping[str, Any]) -> Verdict:
    """Judge ``type``, ``message`` and ``remedy`` of the error in a failed tomogram's status."""
    parts = (str(error.get("message", "")), str(error.get("remedy", "")))
    text = " ".join(part.strip() for part in parts if part.strip())
    reason = _BY_ERROR.get(str(error.get("type", "")), ENGINE)
    if reason != DISK and _MEMORY_WAS_SHORT.search(parts[0]):
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
    if end.last_words:
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
    said = end.last_words.rpartition(BEGINS)[2]
    found = [
        (match.end(), reason)
        for pattern, reason in _BY_LOG
        for match in re.finditer(pattern, said, re.IGNORECASE)
    ]
    if end.state in ("FAILED", "CANCELLED", "") and found:
        return max(found)[1]
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
    return _by_exit_code(end)


def _by_exit_code(end: TaskEnd) -> str:
    if end.exit_code in _FATAL:
        return CRASHED
    # The script notes every other code than 0, and says where it begins.
    never_began = end.state == "FAILED" and end.exit_code is None and not end.last_words
    if end.exit_code in _NO_PROGRAM or never_began:
        return NOT_STARTED
    return LOST if end.exit_code in (None, 0, 1) else ENGINE
