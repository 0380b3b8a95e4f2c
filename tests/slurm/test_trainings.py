"""Trainings on a real Slurm: they go on after the time limit, and on several nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.config.loading import load_config
from cryosiam_engine.slurm.journal import Journal
from shared_cluster import engines

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from training_runs import same, step_losses, training_values, weights, write_training_data

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

COMMON = ["--device", "cpu", "--precision", "fp32"]


class Training:
    """A training that is submitted and followed by a process of its own."""

    def __init__(self, place: Path, *words: str, **environment: str) -> None:
        self.log_dir = place / "there"
        config = ["--config_file", str(place / "there.yaml")]
        words = ("slurm", "semantic_train", *config, *COMMON, "--cpus", "1", "--time", "20", *words)
        self.submitted = time.monotonic()
        self.command = subprocess.Popen(
            [sys.executable, "-m", "cryosiam_engine.cli", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    def until(self, what: Callable[[], object], seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert self.command.poll() is None, "the command has ended"
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def has_learned(self) -> bool:
        """Whether there is an epoch to go on from."""
        path = self.log_dir / "metrics.jsonl"
        return path.exists() and '"kind": "epoch"' in path.read_text()

    @property
    def folder(self) -> Path:
        return next((self.log_dir / "slurm").iterdir())

    @property
    def job(self) -> str:
        return f"{Journal.read(self.folder).submissions[0].job_id}_0"

    def log(self) -> str:
        return (self.folder / "array_001" / "logs" / "0.log").read_text()

    def processes(self) -> list[psutil.Process]:
        """The engine's, on their nodes."""
        return list(engines(self.folder))

    def process(self) -> psutil.Process:
        """One of them, where there are several."""
        return self.processes()[0]


Train = Callable[..., Training]


@pytest.fixture
def train(place: Path) -> Iterator[Train]:
    """Start the training of ``there.yaml``: further words, and variables of its environment."""
    trainings: list[Training] = []

    def start(*words: str, **environment: str) -> Training:
        trainings.append(Training(place, *words, **environment))
        return trainings[-1]

    yield start
    for training in trainings:
        if training.command.poll() is None:
            training.command.kill()
            main(["slurm", "cancel", str(training.log_dir)])


def configurations(place: Path, n_processes: int = 1, **changes: Any) -> None:
    """The same training ``here`` and ``there``; `changes` are parameters of the second one."""
    data = write_training_data(place / "tomograms")
    for name in ("here", "there"):
        values = training_values(data, place / name)
        del values["task"]
        # Adam would enlarge rounding in biases that a normalisation makes meaningless.
        values["hyper_parameters"] |= {"optimizer": "sgd", "lr": 0.05}
        if name == "there":
            values["hyper_parameters"]["batch_size"] //= n_processes
            values["parameters"] |= changes
        (place / f"{name}.yaml").write_text(yaml.safe_dump(values))


def has_pending(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether a signal waits for a process that is held."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [pending] = [line.split()[1] for line in lines if line.startswith("ShdPnd")]
    return bool(int(pending, 16) & 1 << number - 1)


def train_here(place: Path) -> None:
    assert main(["semantic_train", "--config_file", str(place / "here.yaml"), *COMMON]) == 0


def test_a_training_goes_on_exactly_after_its_time_limit(place: Path, train: Train) -> None:
    """Slurm warns, the engine pauses, the task is queued again, the weights are the same."""
    configurations(place)
    training = train("--mem", "1300")
    training.until(training.has_learned)
    # Held, as a longer training would last; what is left is less than the warning's two minutes.
    process = training.process()
    process.suspend()
    minutes = int((time.monotonic() - training.submitted) / 60) + 2
    words = ["scontrol", "update", f"jobid={training.job}"]
    subprocess.run([*words, f"timelimit={minutes}"], check=True)
    train_here(place)
    training.until(lambda: has_pending(process, signal.SIGTERM))
    process.resume()
    training.until(lambda: "queued again" in training.log())
    subprocess.run([*words, "timelimit=20"], check=True)
    assert training.command.wait(600) == 0
    assert load_config(training.folder / "config_resume.yaml", "semantic_train").continue_training
    assert same(*(weights(place / where) for where in ("here", "there")))


def test_two_processes_on_each_of_two_nodes_learn_as_one_and_go_on_after_a_warning(
    place: Path, train: Train
) -> None:
    """Started by srun; their steps are those of one process with the same batch.

    Each has its own CPUs, and sees all GPUs of its node, though they were asked for by process.
    """
    configurations(place, n_processes=4, nodes=2)
    # The nodes of this cluster have names that nobody can look up.
    asked = ["--mem", "2600", "--processes", "2", "--gpus-per-task", "1", "--cpus", "2"]
    training = train(*asked, MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    training.until(training.has_learned)
    processes = [process.environ() for process in training.processes()]
    names = ("SLURM_PROCID", "SLURM_NODEID", "SLURM_LOCALID", "CUDA_VISIBLE_DEVICES")
    assert sorted(tuple(one[name] for name in names) for one in processes) == [
        ("0", "0", "0", "0,1"),
        ("1", "0", "1", "0,1"),
        ("2", "1", "0", "0,1"),
        ("3", "1", "1", "0,1"),
    ]
    assert {one["SLURM_CPUS_PER_TASK"] for one in processes} == {"2"}
    process = training.process()
    process.suspend()  # each waits for the others at every step
    words = ["scancel", "--batch", "--signal=USR1", training.job]
    subprocess.run(words, check=True)
    train_here(place)
    training.until(lambda: has_pending(process, signal.SIGUSR1))
    process.resume()
    training.until(lambda: "queued again" in training.log())
    assert training.command.wait(600) == 0
    alone, together = (step_losses(place / name) for name in ("here", "there"))
    assert len(alone) == len(together)
    assert together == pytest.approx(alone, rel=1e-3)
