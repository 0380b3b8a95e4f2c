"""Trainings of several processes, in Slurm, and of a process that is told to stop or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import ConfigurationError, DeviceError
from cryosiam_engine.status import read_status, status_folder
from cryosiam_engine.training.command import run
from cryosiam_engine.training.metrics import read_metrics
from cryosiam_engine.training.modules import Training
from cryosiam_engine.training.processes import SlurmStep, check_gpus, process_environment
from lightning.pytorch.plugins.environments import LightningEnvironment
from training_runs import (
    arguments,
    same,
    step_losses,
    training_config,
    training_values,
    weights,
    write_training_data,
)

HERE = Path(__file__).parent

#: What Slurm tells a batch script that asked for 16 tasks, the first of which it is.
BATCH = {
    "SLURM_JOB_ID": "123456",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "16",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
#: What it tells the last of four tasks that srun has started on two nodes.
STEP = {
    **BATCH,
    "SLURM_NTASKS": "4",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_processes"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def script(folder: Path, values: dict, processes: int) -> Path:
    """A program that trains, as the command line does."""
    path = folder / "train.py"
    path.write_text(
        "import json, sys\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from training_runs import arguments\n"
        "from cryosiam_engine.config.train import TrainConfig\n"
        "from cryosiam_engine.training.command import run\n"
        f"values = json.loads({json.dumps(values)!r})\n"
        f"run(TrainConfig.model_validate(values), arguments(processes={processes}))\n"
    )
    return path


@pytest.mark.slow
def test_two_processes_learn_as_one_with_the_same_batch(data: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        values = training_values(data, tmp_path / str(processes))
        # Adam would enlarge rounding in biases that a normalisation makes meaningless.
        changes = {"batch_size": 4 // processes, "optimizer": "sgd", "lr": 0.05}
        values["hyper_parameters"] |= changes
        if processes == 1:
            run(TrainConfig.model_validate(values), arguments())
        else:
            program = script(tmp_path, values, processes)
            # As in a batch job that has one task but two GPUs or nodes' cores to itself.
            environment = {**os.environ, **BATCH, "SLURM_NTASKS": "1", "OMP_NUM_THREADS": "1"}
            subprocess.run([sys.executable, program], env=environment, check=True, timeout=600)
    alone, together = (step_losses(tmp_path / name) for name in "12")
    assert len(alone) == len(together) == 6
    assert together == pytest.approx(alone, rel=1e-3)
    validations = [
        [line["val_loss"] for line in read_metrics(tmp_path / name) if line["kind"] == "epoch"]
        for name in "12"
    ]
    assert validations[1] == pytest.approx(validations[0], rel=1e-3)


def started(folder: Path, values: dict) -> subprocess.Popen[bytes]:
    """A training in a process of its own that has done an epoch."""
    process = subprocess.Popen([sys.executable, script(folder, values, 1)])
    deadline = time.monotonic() + 200
    while not (folder / "log" / "model" / "last.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_sigterm_ends_a_training_with_the_best_model(data: Path, tmp_path: Path) -> None:
    values = training_values(data, tmp_path / "log")
    values["hyper_parameters"]["max_epochs"] = 10_000
    process = started(tmp_path, values)
    process.terminate()
    assert process.wait(60) == 0
    status = read_status(status_folder(tmp_path / "log", "train"), "training")
    assert status is not None
    assert status.state == "done"
    assert status.summary["stopped_by"] == "SIGTERM"
    load_checkpoint(tmp_path / "log" / "model" / "model_best.ckpt")
    load_checkpoint(tmp_path / "log" / "model" / "last.ckpt")


def test_slurms_warning_ends_a_training_after_its_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned(self: Training, batch: object, index: int) -> torch.Tensor:
        if self.trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(self, batch, index)

    original = Training.training_step
    monkeypatch.setattr(Training, "training_step", warned)
    run(training_config(data, tmp_path, schedule={"max_epochs": 50}), arguments())
    status = read_status(status_folder(tmp_path, "train"), "training")
    assert status is not None
    assert status.summary["stopped_by"] == "SIGUSR1"
    assert status.summary["epochs"] == 1
    assert len(step_losses(tmp_path)) == 3


@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_as_if_undisturbed(data: Path, tmp_path: Path) -> None:
    values = training_values(data, tmp_path / "log")
    values["hyper_parameters"]["max_epochs"] = 10
    process = started(tmp_path, values)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert len(step_losses(tmp_path / "log")) < 20
    run(TrainConfig.model_validate({**values, "continue_training": True}), arguments())
    undisturbed = training_config(data, tmp_path / "undisturbed", schedule={"max_epochs": 10})
    run(undisturbed, arguments())
    for name in ("last.ckpt", "model_best.ckpt"):
        assert same(weights(tmp_path / "log", name), weights(tmp_path / "undisturbed", name))
    assert step_losses(tmp_path / "log") == step_losses(tmp_path / "undisturbed")


# ------------------------------------------------------------------ Slurm


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch):
    """Set what Slurm tells, and nothing else of it."""

    def tell(told: dict[str, str]) -> None:
        for name in [*os.environ]:
            if name.startswith(("SLURM_", "MASTER_", "TORCHELASTIC_")):
                monkeypatch.delenv(name)
        for name, value in told.items():
            monkeypatch.setenv(name, value)

    return tell


def test_tasks_of_a_batch_job_are_no_processes(data: Path, tmp_path: Path, slurm) -> None:
    """CryoSiam's own batch scripts ask for 16 tasks and run one program."""
    slurm(BATCH)
    assert run(training_config(data, tmp_path, schedule={"max_epochs": 1}), arguments()).done
    assert len(step_losses(tmp_path)) == 2


def test_what_srun_has_started_trains_together(slurm) -> None:
    slurm(STEP)
    step = process_environment(2, 2)
    assert isinstance(step, SlurmStep)
    assert step.creates_processes_externally
    assert step.world_size() == 4
    assert (step.global_rank(), step.node_rank(), step.local_rank()) == (3, 1, 1)
    assert step.main_address == "gpu07"
    assert step.main_port == SlurmStep().main_port
    slurm({**STEP, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "777"})
    assert (step.main_address, step.main_port) == ("10.0.0.1", 777)
    slurm({**STEP, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"})
    assert isinstance(process_environment(2, 1), SlurmStep)
    slurm({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"})
    assert isinstance(process_environment(2, 1), LightningEnvironment)


@pytest.mark.parametrize("wanted", [(1, 1), (4, 1), (1, 4), (2, 1)])
def test_other_processes_than_srun_has_started(slurm, wanted: tuple[int, int]) -> None:
    slurm(STEP)
    with pytest.raises(ConfigurationError, match="srun has started 4 processes") as told:
        process_environment(*wanted)
    assert f"--nodes={wanted[1]} --ntasks-per-node={wanted[0]}" in told.value.remedy


@pytest.mark.parametrize("told", [{}, BATCH])
def test_several_nodes_are_not_waited_for_alone(slurm, told: dict[str, str]) -> None:
    slurm(told)
    with pytest.raises(ConfigurationError, match=r"nodes is 2, but .* started alone"):
        process_environment(2, 2)
    slurm({**told, "MASTER_ADDR": "node1"})
    process_environment(2, 2)


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_gpus(2)
    with pytest.raises(DeviceError, match="3 GPUs shall train together, but this process sees 2"):
        check_gpus(3)
