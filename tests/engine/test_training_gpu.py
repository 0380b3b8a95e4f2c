"""Training on a GPU: where there is none, all of this is skipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.networks import load_network
from cryosiam_engine.status import read_status, status_folder
from cryosiam_engine.training.command import run
from cryosiam_engine.training.metrics import read_metrics
from cryosiam_engine.training.modules import Training
from training_runs import (
    Killed,
    arguments,
    killed_at,
    step_losses,
    training_config,
    weights,
    write_training_data,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_gpu"))


def config_for(data: Path, log: Path, **changes: object):
    """Epochs of 12 steps: more than a GPU is asked for at once."""
    return training_config(
        data,
        log,
        network={"out_channels": 3, "use_dice_loss": True, "distance_prediction": True},
        patches={"patches_per_epoch": 24},
        schedule={"batch_size": 2, "max_epochs": 3, "num_workers": 2},
        **changes,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_on_a_gpu_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    how = arguments(device="cuda", precision=precision)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run(config_for(data, undisturbed), how)
    config = config_for(data, killed)
    with monkeypatch.context() as patched:
        patched.setattr(Training, "training_step", killed_at(17))
        with pytest.raises(Killed):
            run(config, how)
    run(config.model_copy(update={"continue_training": True}), how)

    status = read_status(status_folder(killed, "train"), "training")
    assert status is not None
    assert (status.state, status.summary["epochs"]) == ("done", 3)
    assert status.device.startswith("cuda")
    for log in (undisturbed, killed):
        lines = read_metrics(log)
        assert [line["step"] for line in lines if line["kind"] == "step"] == [*range(1, 37)]
        assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2, 3]
        assert np.isfinite(step_losses(log)).all()
    # A GPU's sums are in no fixed order: near, not the same.
    tolerance = 0.02 if precision == "fp32" else 0.2
    assert step_losses(killed) == pytest.approx(step_losses(undisturbed), rel=tolerance)
    epochs = [line["val_loss"] for line in read_metrics(killed) if line["kind"] == "epoch"]
    assert epochs[-1] < epochs[0]
    assert all(t.device.type == "cpu" for t in weights(killed).values())
    assert all(t.dtype in (torch.float32, torch.int64) for t in weights(killed).values())
    load_network(load_checkpoint(killed / "model" / "model_best.ckpt"), "semantic")


def test_the_first_losses_are_those_of_the_cpu(data: Path, tmp_path: Path) -> None:
    """The same samples and the same network, whatever computes."""
    for device in ("cpu", "cuda"):
        run(config_for(data, tmp_path / device), arguments(device=device, precision="fp32"))
    one, other = (step_losses(tmp_path / device)[:3] for device in ("cpu", "cuda"))
    assert one == pytest.approx(other, rel=0.02)


def test_a_dry_run_measures_the_memory_of_the_gpu(data: Path, tmp_path: Path) -> None:
    config = training_config(data, tmp_path, patches={"patch_size": (48, 48, 48)})
    run(config, arguments(device="cuda", dry_run=True))
    told = json.loads((tmp_path / "dry_run.json").read_text())
    assert told["device"].startswith("cuda")
    assert told["memory_gib"] > 0.01
