"""The course of a training in its files: losses, learning rate, TensorBoard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cryosiam_engine.training.command import run
from cryosiam_engine.training.metrics import read_metrics
from torch.optim.lr_scheduler import OneCycleLR
from training_runs import arguments, training_config, write_training_data

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def shown(folder: Path) -> dict[str, dict[int, float]]:
    """The curves that TensorBoard draws of a folder."""
    reader = events.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {
        tag: {event.step: event.value for event in reader.Scalars(tag)}
        for tag in reader.Tags()["scalars"]
    }


def test_the_files_say_what_each_step_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data = write_training_data(tmp_path / "data")
    config = training_config(data, tmp_path / "log", schedule={"max_epochs": 3})
    run(config, arguments())
    lines = read_metrics(tmp_path / "log")
    steps = {line["step"]: line for line in lines if line["kind"] == "step"}
    assert [*steps] == [1, 2, 3, 4, 5, 6]

    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    schedule = OneCycleLR(optimiser, max_lr=config.schedule.lr, total_steps=6)
    for line in steps.values():
        # What this step has used, not what the next one will.
        assert line["lr"] == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        if line["step"] < 6:
            schedule.step()

    curves = shown(tmp_path / "log")
    for kind in ("step", "epoch"):
        for name in ("loss", "lr") if kind == "step" else ("train_loss", "val_loss", "val_dice_1"):
            told = {line["step"]: line[name] for line in lines if line["kind"] == kind}
            drawn = curves[f"{kind}/{name}"]
            assert drawn == pytest.approx({k: v for k, v in told.items() if v is not None})
