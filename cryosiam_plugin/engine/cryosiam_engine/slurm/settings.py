"""What is asked of Slurm for every task."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .errors import SlurmError
from .options import check_options

#: Seconds before the time limit at which the engine is asked to stop.
WARNING_SECONDS = 120

_MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


@dataclass(frozen=True)
class JobSettings:
    """What one task gets; what is empty or 0 is left to the cluster's defaults.

    Attributes
    ----------
    partition, account, qos
        As ``sbatch`` takes them.
    gres
        Such as ``gpu:1`` or ``gpu:a100:1``.
    gpus_per_task
        Another way to ask for GPUs, of clusters that prefer ``--gpus-per-task``.
    cpus
        CPUs of a task.
    memory
        Such as ``32G``; of a node.
    time
        Such as ``60`` (minutes), ``4:00:00``, ``1-12``.
    cap
        Tasks that may run at once.
    extra
        Further options of sbatch, such as ``--constraint=a100``; not those that a run depends on.
    nodes, processes
        Of a training: nodes, and processes on each. More than one process is started by ``srun``.
    """

    partition: str = ""
    gres: str = ""
    gpus_per_task: str = ""
    cpus: int = 0
    memory: str = ""
    time: str = ""
    account: str = ""
    qos: str = ""
    cap: int = 0
    extra: tuple[str, ...] = ()
    nodes: int = 1
    processes: int = 1

    def check(self) -> None:
        """Refuse what cannot be right, before anything is submitted.

        Raises
        ------
        SlurmError
            Naming the setting.
        """
        for name, about in (
            ("partition", "partition"),
            ("gres", "gpus"),
            ("gpus_per_task", "gpus"),
            ("account", "account"),
            ("qos", "qos"),
        ):
            value = getattr(self, name)
            if re.search(r"\s", value):
                raise SlurmError(
                    f"{name}: '{value}' has a blank in it.", remedy="Correct it.", about=(about,)
                )
        check_options(self.extra)
        if self.time:
            seconds_of_time(self.time)
        if self.memory:
            megabytes(self.memory)

    @property
    def warning_seconds(self) -> int:
        """How long before the time limit a task is told: a quarter of a very short limit."""
        limit = seconds_of_time(self.time) if self.time else 0
        return min(WARNING_SECONDS, limit // 4) if limit else WARNING_SECONDS

    def with_more_memory(self, factor: float) -> JobSettings:
        """The same with `factor` times the memory, where an amount was given."""
        if not self.memory or factor == 1:
            return self
        return replace(self, memory=f"{round(megabytes(self.memory) * factor)}M")


def seconds_of_time(text: str) -> int:
    """Read one of Slurm's forms of a time limit; 0 for one without end.

    Raises
    ------
    SlurmError
        When it is none.

    Examples
    --------
    >>> [seconds_of_time(text) for text in ("30", "4:00:00", "1-12", "10:30")]
    [1800, 14400, 129600, 630]
    """
    if text.upper() in ("UNLIMITED", "INFINITE"):
        return 0
    found = re.match(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$", text)
    if not found:
        raise SlurmError(
            f"'{text}' is no time limit.",
            remedy="Give minutes (90), hours:minutes:seconds (4:00:00) or days-hours (1-12).",
            about=("time",),
        )
    days, first, second, third = (None if group is None else int(group) for group in found.groups())
    if days is not None:
        return ((days * 24 + (first or 0)) * 60 + (second or 0)) * 60 + (third or 0)
    if third is not None:
        return ((first or 0) * 60 + (second or 0)) * 60 + third
    return (first or 0) * 60 + (second or 0)


def megabytes(text: str) -> float:
    """Read an amount of memory as sbatch does: ``4000`` (MB), ``32G``.

    Raises
    ------
    SlurmError
        When it is none.
    """
    found = re.match(r"(\d+(?:\.\d+)?)([KMGT]?)B?$", text.upper())
    if not found:
        raise SlurmError(
            f"'{text}' is no amount of memory.", remedy="Give, for example, 32G.", about=("memory",)
        )
    return float(found.group(1)) * _MEGABYTES[found.group(2) or "M"]
