"""Who starts the processes that train together: the engine, or Slurm's ``srun``."""

from __future__ import annotations

import os

import torch
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
)
from lightning.pytorch.utilities import rank_zero_only

from cryosiam_engine.errors import ConfigurationError, DeviceError

_FIRST_PORT, _PORTS = 15_000, 10_000


class SlurmStep(ClusterEnvironment):
    """The tasks of one ``srun``; each of them is one process of the training.

    ``MASTER_ADDR`` and ``MASTER_PORT``, where they are set, say where the processes meet.
    """

    @property
    def creates_processes_externally(self) -> bool:
        """Slurm has started all processes."""
        return True

    @property
    def main_address(self) -> str:
        """The first node."""
        nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
        return os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)

    @property
    def main_port(self) -> int:
        """The same in all processes; another for other jobs, which may be on the same node."""
        own = _number("SLURM_JOB_ID") + _number("SLURM_STEP_ID")
        return _number("MASTER_PORT") or _FIRST_PORT + own % _PORTS

    @staticmethod
    def detect() -> bool:
        """Whether ``srun`` has started this process together with others."""
        return _number("SLURM_STEP_NUM_TASKS") > 1

    def world_size(self) -> int:
        """Processes on all nodes."""
        return _number("SLURM_STEP_NUM_TASKS")

    def set_world_size(self, size: int) -> None:
        """Slurm decides."""

    def global_rank(self) -> int:
        """Which of them this is, from 0."""
        return _number("SLURM_PROCID")

    def set_global_rank(self, rank: int) -> None:
        """Slurm decides."""

    def local_rank(self) -> int:
        """Which of those on this node this is, from 0."""
        return _number("SLURM_LOCALID")

    def node_rank(self) -> int:
        """Which node this is, from 0."""
        return _number("SLURM_NODEID")


def process_environment(n_processes: int, n_nodes: int) -> ClusterEnvironment | None:
    """Say who starts the processes.

    Slurm's number of tasks counts only in what ``srun`` has started: batch jobs often ask for
    tasks to get processor cores, and then run one program.

    Parameters
    ----------
    n_processes
        On each node.
    n_nodes
        Nodes.

    Returns
    -------
    ClusterEnvironment or None
        None outside of Slurm: Lightning looks for other launchers, such as ``torchrun``.

    Raises
    ------
    ConfigurationError
        When ``srun`` has started other processes than those that shall train.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    if SlurmStep.detect():
        _check_started(n_processes, n_nodes)
        return SlurmStep()
    if n_nodes > 1 and "MASTER_ADDR" not in os.environ:
        raise ConfigurationError(
            f"parameters.nodes is {n_nodes}, but this process was started alone: it would wait for "
            "the others for ever.",
            remedy=f"Start it by srun --nodes={n_nodes} --ntasks-per-node={n_processes}, by "
            "torchrun, or with MASTER_ADDR set to the first node; or set parameters.nodes to 1.",
        )
    return LightningEnvironment() if "SLURM_JOB_ID" in os.environ else None


def is_first_process() -> bool:
    """Whether this is the process that writes, of those that train together."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def _check_started(n_processes: int, n_nodes: int) -> None:
    started = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    if started != (str(n_processes) if n_nodes == 1 else f"{n_processes}(x{n_nodes})"):
        raise ConfigurationError(
            f"srun has started {SlurmStep().world_size()} processes ({started} on each node), but "
            f"{n_processes} on {n_nodes} node(s) shall train together.",
            remedy=f"Use srun --nodes={n_nodes} --ntasks-per-node={n_processes}; or set "
            "parameters.nodes and parameters.gpu_devices (on a CPU: --processes) to what it "
            "starts. Cores for one process are --cpus-per-task.",
        )


def check_gpus(n_processes: int) -> None:
    """Refuse more processes on this node than it shows GPUs.

    Raises
    ------
    DeviceError
        With both numbers.
    """
    n_gpus = torch.cuda.device_count()
    if n_processes > n_gpus:
        raise DeviceError(
            f"{n_processes} GPUs shall train together, but this process sees {n_gpus}.",
            remedy="Set parameters.gpu_devices (or --processes) to the number of GPUs of a node; "
            "in Slurm ask for them with --gres=gpu:N, so that each process sees all of them.",
        )


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0
