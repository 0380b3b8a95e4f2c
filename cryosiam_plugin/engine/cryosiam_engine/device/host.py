"""What this process may really use of the computer: memory and processor cores.

A cluster node has far more of both than one job was given. The limits of the job (Slurm) and of
the container or service (control groups, versions 1 and 2) count, not what the node has.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

#: Where Linux shows control groups, and which of them this process is in.
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")

_MEBIBYTE = 2**20

#: Share of the free memory, of the computer or of a GPU, that tiles are planned with: set where
#: memory ran out before.
MEMORY_SHARE = "CRYOSIAM_MEMORY_SHARE"


def free_host_memory() -> int:
    """Give the memory that this process can still take before it is stopped.

    Returns
    -------
    int
        Bytes: the smallest of what the computer has available, what the control groups of this
        process have left, and what Slurm gave the job less what this process holds already.
    """
    amounts = [int(psutil.virtual_memory().available), *_free_in_control_groups()]
    granted = _slurm_memory()
    if granted is not None:
        amounts.append(granted - int(psutil.Process().memory_info().rss))
    return max(min(amounts), 0)


def memory_share() -> float:
    """Give the share of the free memory that may be planned with: ``CRYOSIAM_MEMORY_SHARE``.

    Returns
    -------
    float
        Above 0, at most 1; 1 where the variable is not set, or is no such number.
    """
    try:
        share = float(os.environ.get(MEMORY_SHARE, "1"))
    except ValueError:
        return 1.0
    return share if 0 < share <= 1 else 1.0


def cpu_threads() -> int:
    """Give the number of threads to compute with.

    Returns
    -------
    int
        At least 1: the smallest of the cores this process may run on, the processor quota of its
        control groups (rounded up), ``SLURM_CPUS_PER_TASK`` and ``OMP_NUM_THREADS``.
    """
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()]
    counts += [math.ceil(quota) for quota in _processor_quotas()]
    counts += [_environment_number("SLURM_CPUS_PER_TASK"), _environment_number("OMP_NUM_THREADS")]
    return max(min(count for count in counts if count), 1)


def set_threads() -> int:
    """Let PyTorch use as many threads as :func:`cpu_threads` says, and return that number."""
    threads = cpu_threads()
    torch.set_num_threads(threads)
    return threads


def _slurm_memory() -> int | None:
    """Give the bytes Slurm granted on this node; None outside a job or without a limit."""
    per_node = _environment_number("SLURM_MEM_PER_NODE")
    if per_node:
        return per_node * _MEBIBYTE
    per_cpu = _environment_number("SLURM_MEM_PER_CPU")
    cpus = _environment_number("SLURM_CPUS_ON_NODE")
    return per_cpu * cpus * _MEBIBYTE if per_cpu and cpus else None


def _environment_number(name: str) -> int | None:
    """Read a positive whole number from the environment; anything else counts as not set."""
    text = os.environ.get(name, "").strip()
    # Slurm writes 0 for "all of it", which is no limit.
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _free_in_control_groups() -> Iterator[int]:
    """Yield the bytes left in every control group with a memory limit."""
    for folder in _control_groups("memory"):
        for limit_name, usage_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, usage = _number(folder / limit_name), _number(folder / usage_name)
            if limit is not None:
                # File cache that the kernel can drop at once is counted as usage there.
                cache = _statistic(folder / "memory.stat", cache_name)
                yield limit - max((usage or 0) - cache, 0)


def _processor_quotas() -> Iterator[float]:
    """Yield the processor quota, in cores, of every control group that has one."""
    for folder in _control_groups("cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us")
            period = _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            yield int(quota) / int(period)


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups, innermost first, up to the root.

    A limit of an outer group holds too. Inside a container the inner path may not exist; the
    root then shows the container's own limits.
    """
    for line in _read(_CGROUP_MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _CGROUP_ROOT / controller if controllers else _CGROUP_ROOT
        folder = root / path.strip("/")
        yield folder
        while folder != root and root in folder.parents:
            folder = folder.parent
            yield folder


def _read(path: Path) -> str:
    """Read a small text file; one that cannot be read is empty."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """Read a file that holds one number; "max" and absent files give None."""
    text = _read(path)
    return int(text) if text.isdecimal() else None


def _statistic(path: Path, name: str) -> int:
    """Read one value of a file of ``name value`` lines; 0 when it is not there."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0
