"""What a training goes on from, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.training.command import run
from cryosiam_engine.training.modules import Training
from cryosiam_engine.volume import read_volume, write_mrc
from training_runs import (
    Killed,
    arguments,
    killed_at,
    same,
    step_losses,
    training_config,
    weights,
    write_training_data,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of this test alone, so that it may be changed."""
    return write_training_data(tmp_path / "data", 2)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def swap_classes(data: Path) -> None:
    """Make every voxel of class 1 one of class 2, and the other way round."""
    for path in (data / "classes").iterdir():
        labels = read_volume(path).data.astype("int8")
        write_mrc(path, (3 - labels) * (labels > 0), voxel_size=10)


def kill(config: TrainConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Training, "training_step", killed_at(step))
        with pytest.raises(Killed):
            run(config, arguments())


def test_a_new_training_leaves_nothing_of_the_old_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = tmp_path / "log", tmp_path / "other"
    schedule = {"max_epochs": 2}
    config = training_config(data, log, schedule=schedule)
    run(config, arguments())
    (log / "model" / ".last.partial-77.ckpt").write_bytes(b"half")
    swap_classes(data)
    kill(config, 1, monkeypatch)
    assert not list((log / "model").iterdir())
    assert len(step_losses(log)) == 1

    run(config.model_copy(update={"continue_training": True}), arguments())

    run(training_config(data, other, schedule=schedule), arguments())
    assert same(weights(log), weights(other))
    assert same(weights(log, "model_best.ckpt"), weights(other, "model_best.ckpt"))
    assert step_losses(log) == step_losses(other)


def test_a_training_that_cannot_begin_removes_nothing(data: Path, tmp_path: Path) -> None:
    config = training_config(data, tmp_path / "log", schedule={"max_epochs": 1})
    run(config, arguments())
    before = weights(tmp_path / "log")
    losses = step_losses(tmp_path / "log")
    for changes in ({"schedule": {"batch_size": 64}}, {"network": {"out_channels": 2}}):
        with pytest.raises(ValueError, match=r"fewer than one batch|labels 2"):
            run(training_config(data, tmp_path / "log", **changes), arguments())
    assert same(weights(tmp_path / "log"), before)
    assert step_losses(tmp_path / "log") == losses


def test_a_training_does_not_replace_the_model_that_it_begins_with(
    data: Path, tmp_path: Path
) -> None:
    config = training_config(data, tmp_path / "log", schedule={"max_epochs": 1})
    run(config, arguments())
    best = tmp_path / "log" / "model" / "model_best.ckpt"
    before = best.read_bytes()
    with pytest.raises(ConfigurationError, match="would replace") as told:
        run(config.model_copy(update={"pretrained_model": best}), arguments())
    assert "another log_dir" in told.value.remedy
    assert best.read_bytes() == before
    assert torch.load(best, weights_only=True)["state_dict"]
