"""What Slurm's programs say when they refuse: for how long, because of what, what to do."""

from __future__ import annotations

import re

from .errors import FULL, TOO_LARGE, TOO_MANY, SlurmError
from .reasons import Words

#: Follows every refusal by a policy, whichever of its limits it was.
_ANY_POLICY = re.compile(r"\(job submit limit[^)]*\)", re.IGNORECASE)
#: Before each line of a program's complaint.
_PREFIX = re.compile(r"^\w+: (error|fatal): ")

#: What may be different a little later, and leaves open whether the job was taken.
_NO_ANSWER = re.compile(
    r"contact slurm controller|timed out|timeout|connection (refused|reset)|standby|zero bytes"
    r"|transport endpoint|communication|munge|protocol authentication|invalid authentication"
    r"|authentication credential|temporarily|try again",
    re.IGNORECASE,
)
_LIMITS = (
    # A group's or an account's is others' too: they make room for us.
    (r"MaxSubmit\w*PerAcc|GrpSubmit|job queue full|temporarily (unable|disabled)", FULL),
    (r"MaxSubmit|MaxJobs", TOO_MANY),
    (r"invalid job array specification", TOO_LARGE),
)
_ABOUT = (
    (
        r"(invalid|no) partition|use this partition|partition configuration",
        ("partition",),
        "Choose a partition that you may use: 'sinfo' lists them.",
    ),
    (
        r"time limit|time specification|MaxWall",
        ("time",),
        "Ask for less time, or another partition: sinfo --format='%P %l' lists their limits.",
    ),
    (
        r"invalid qos|qos .*permi",
        ("qos",),
        "Choose a QOS that you may use: 'sacctmgr show assoc user=$USER format=account,qos' "
        "lists them.",
    ),
    (
        r"invalid account|InvalidAccount",
        ("account", "partition"),
        "Choose an account that is yours: 'sacctmgr show assoc user=$USER format=account' lists "
        "them.",
    ),
    (r"MaxMem|MaxTRES\w*mem|memory", ("memory",), "Ask for less memory, or another partition."),
    (
        r"node configuration|more processors|MaxCpu|MaxTRES|cpu count|gres|generic resource",
        ("cpus", "memory", "gpus"),
        "No node of the partition has as much, or you may not have it: ask for fewer CPUs or GPUs "
        "or less memory, or choose another partition. 'sinfo --Node --long' shows what there is.",
    ),
    (
        r"array specification|\barray\b",
        ("per_task",),
        "The cluster takes no such array: 'scontrol show config | grep MaxArraySize' says how "
        "many tasks one may have.",
    ),
    (
        r"feature|node name|reservation|license|unrecognized option|invalid option|unknown option",
        ("options",),
        "Correct the other options of sbatch.",
    ),
    (
        r"accounting/QOS policy",
        ("account", "qos"),
        "A limit of your account or QOS is smaller than what each task asks for: 'sacctmgr show "
        "assoc user=$USER' and 'sacctmgr show qos' list them.",
    ),
)


def refusal(program: str, said: str) -> SlurmError:
    """Turn a complaint of one of Slurm's programs into an error that says what to do.

    Parameters
    ----------
    program
        Its name.
    said
        What it wrote, on any number of lines.

    Examples
    --------
    >>> error = refusal("sbatch", "sbatch: error: Invalid partition name specified")
    >>> error.message, error.about, error.passing
    ('sbatch refused: Invalid partition name specified.', ('partition',), False)
    """
    lines = [_PREFIX.sub("", " ".join(line.split())) for line in said.splitlines()]
    text = "; ".join(line for line in lines if line)
    telling = _ANY_POLICY.sub("", text)
    limit = next((limit for words, limit in _LIMITS if re.search(words, telling, re.I)), "")
    passing = limit in (FULL, TOO_MANY) or bool(_NO_ANSWER.search(telling))
    about, remedy = ((), "") if passing else _what_to_do(telling)
    return SlurmError(
        f"{program} refused: {text.rstrip('.')}.",
        remedy=remedy,
        passing=passing,
        limit=limit,
        about=about,
    )


def advice(error: SlurmError, words: Words) -> str:
    """What to do about an error, with what the front end calls the settings that it is about.

    Parameters
    ----------
    error
        Of Slurm.
    words
        Of the front end.

    Examples
    --------
    >>> words = Words("--mem", "--time", "", "--partition", "", "", "")
    >>> advice(SlurmError("No.", remedy="Ask for less.", about=["time", "partition"]), words)
    'Ask for less. See --time, --partition.'
    """
    named = [str(getattr(words, about, "")) for about in error.about]
    listed = ", ".join(name for name in named if name)
    return f"{error.remedy} See {listed}." if listed else error.remedy


def _what_to_do(text: str) -> tuple[tuple[str, ...], str]:
    for pattern, about, remedy in _ABOUT:
        if re.search(pattern, text, re.IGNORECASE):
            return about, remedy
    return (), ""
