from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.config.training import DistanceMapsConfig, PatchesConfig
from cryosiam_engine.errors import (
    BusyError,
    CheckpointError,
    ConfigurationError,
    UnsafeCheckpointError,
)
from cryosiam_engine.locks import locked
from cryosiam_engine.networks import describe, load_network
from cryosiam_engine.status import read_status, status_folder
from cryosiam_engine.training.command import run
from cryosiam_engine.training.distance_maps import run as prepare_distances
from cryosiam_engine.training.metrics import read_metrics
from cryosiam_engine.training.modules import Training
from cryosiam_engine.training.patch_files import run as cut_patches
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from training_runs import (
    Killed,
    arguments,
    killed_at,
    same,
    step_losses,
    training_config,
    training_values,
    weights,
    write_training_data,
)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_data"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("task", ["semantic", "denoising", "instance", "embedding"])
def test_every_task_trains_and_its_model_loads(data: Path, tmp_path: Path, task: str) -> None:
    config = training_config(data, tmp_path, task, schedule={"max_epochs": 1})
    report = run(config, arguments())
    assert report.done == ["training"]
    checkpoint = load_checkpoint(tmp_path / "model" / "model_best.ckpt")
    assert describe(checkpoint).task == task
    load_network(checkpoint, task)
    status = read_status(status_folder(tmp_path, "train"), "training")
    assert status is not None
    assert status.state == "done"
    assert [output.kind for output in status.outputs] == ["model", "last_model"]
    assert status.summary["epochs"] == 1


@pytest.mark.parametrize("source", ["auto", "folder", "tomograms"])
def test_training_on_the_patch_folder(data: Path, tmp_path: Path, source: str) -> None:
    values = training_values(data, tmp_path / "log")
    values |= {"patches_folder": str(tmp_path / "patches"), "temp_dir": str(tmp_path / "temp")}
    values |= {"patch_source": source}
    values["parameters"]["data"]["patch_overlap"] = 0.5
    values["parameters"]["network"]["distance_prediction"] = True
    for model, prepare in ((DistanceMapsConfig, prepare_distances), (PatchesConfig, cut_patches)):
        config = model.model_validate(values)
        assert prepare(config, argparse.Namespace(filename=[])).exit_code == 0
    values["hyper_parameters"]["max_epochs"] = 1
    config = TrainConfig.model_validate(values)
    training, validation = training_volumes(config, fresh_split(config))
    in_folder = source != "tomograms"
    assert all((v.distances is not None) == in_folder for v in [*training, *validation])
    assert len(training) == (2 * 2 * 3 * 4 if in_folder else 2)
    run(config, arguments())
    assert len(step_losses(tmp_path / "log")) == (12 if in_folder else 2)


def test_a_patch_folder_that_is_asked_for_must_be_there(data: Path, tmp_path: Path) -> None:
    config = training_config(
        data, tmp_path, patches_folder=tmp_path / "none", patch_source="folder"
    )
    with pytest.raises(ConfigurationError, match="holds no patches"):
        run(config, arguments())


def test_the_loss_falls(data: Path, tmp_path: Path) -> None:
    changes = {"patches": {"patches_per_epoch": 24}, "schedule": {"max_epochs": 12}}
    run(training_config(data, tmp_path, **changes), arguments())
    epochs = [line for line in read_metrics(tmp_path) if line["kind"] == "epoch"]
    assert epochs[-1]["val_loss"] < 0.7 * epochs[0]["val_loss"]
    assert epochs[-1]["train_loss"] < 0.7 * epochs[0]["train_loss"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("steps", [3, 4, 5])
def test_a_killed_training_goes_on_exactly(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, optimizer: str
) -> None:
    schedule = {"optimizer": optimizer, "val_interval": 2}
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run(training_config(data, undisturbed, schedule=schedule), arguments())
    begun = training_config(data, killed, schedule=schedule)
    with monkeypatch.context() as patched:
        patched.setattr(Training, "training_step", killed_at(steps))
        with pytest.raises(Killed):
            run(begun, arguments())
    assert len(step_losses(killed)) == steps
    run(begun.model_copy(update={"continue_training": True}), arguments())
    assert same(weights(killed), weights(undisturbed))
    assert same(weights(killed, "model_best.ckpt"), weights(undisturbed, "model_best.ckpt"))
    assert step_losses(killed) == step_losses(undisturbed)
    assert (killed / "epochs.csv").read_text().count("\n") == 4


def test_a_seed_decides_everything(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(name) + seed * 5)
        config = training_config(data, tmp_path / name, schedule={"max_epochs": 1}, seed=seed)
        run(config, arguments())
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_workers_change_nothing(data: Path, tmp_path: Path) -> None:
    for name, workers in (("none", 0), ("one", 1)):
        schedule = {"max_epochs": 2, "num_workers": workers}
        run(training_config(data, tmp_path / name, schedule=schedule), arguments())
    assert same(weights(tmp_path / "none"), weights(tmp_path / "one"))


def test_a_stop_file_ends_with_the_best_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asking(self: Training, batch: object, index: int) -> torch.Tensor:
        if self.trainer.global_step == 3:
            (tmp_path / "STOP").touch()
        return original(self, batch, index)

    original = Training.training_step
    monkeypatch.setattr(Training, "training_step", asking)
    monkeypatch.setattr("cryosiam_engine.training.stopping._SECONDS_BETWEEN_LOOKS", 0.0)
    config = training_config(data, tmp_path, schedule={"max_epochs": 50})
    run(config, arguments())
    status = read_status(status_folder(tmp_path, "train"), "training")
    assert status is not None
    assert status.state == "done"
    assert "STOP" in status.summary["stopped_by"]
    assert status.summary["epochs"] == 1
    assert len(step_losses(tmp_path)) == 4
    load_checkpoint(tmp_path / "model" / "model_best.ckpt")
    # The broken-off epoch is done again, and the request is over.
    monkeypatch.setattr(Training, "training_step", original)
    schedule = config.schedule.model_copy(update={"max_epochs": 50})
    assert schedule == config.schedule
    resumed = config.model_copy(update={"continue_training": True})
    monkeypatch.setattr(Training, "training_step", asking_at(original, 7, tmp_path))
    run(resumed, arguments())
    assert len(step_losses(tmp_path)) == 8


def asking_at(original, step: int, folder: Path):
    def asking(self: Training, batch: object, index: int) -> torch.Tensor:
        if self.trainer.global_step == step:
            (folder / "STOP").touch()
        return original(self, batch, index)

    return asking


def test_early_stopping(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 2.0, 3.0, 0.5, 0.1])

    def judged(self: Training) -> None:
        self.validation = {"val_loss": next(losses)}

    monkeypatch.setattr(Training, "on_validation_epoch_end", judged)
    schedule = {"max_epochs": 5, "early_stopping": 2}
    run(training_config(data, tmp_path, schedule=schedule), arguments())
    status = read_status(status_folder(tmp_path, "train"), "training")
    assert status is not None
    assert status.summary["epochs"] == 3
    assert status.summary["best_epoch"] == 1


def test_a_training_goes_on_with_its_own_settings_only(data: Path, tmp_path: Path) -> None:
    config = training_config(data, tmp_path, schedule={"max_epochs": 1}, continue_training=True)
    run(config, arguments())
    schedule = config.schedule.model_copy(update={"max_epochs": 2})
    with pytest.raises(ConfigurationError, match="max_epochs was 1 and is 2"):
        run(config.model_copy(update={"schedule": schedule}), arguments())
    with pytest.raises(ConfigurationError, match="seed was 0 and is 3"):
        run(config.model_copy(update={"seed": 3}), arguments())
    smaller = config.schedule.model_copy(update={"batch_size": 1})
    with pytest.raises(ConfigurationError, match="begun with 4 steps in all"):
        run(config.model_copy(update={"schedule": smaller}), arguments())
    status = read_status(status_folder(tmp_path, "train"), "training")
    assert status is not None
    assert status.state == "failed"


def test_a_poisoned_checkpoint_is_not_gone_on_from(data: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    (tmp_path / "model").mkdir()
    torch.save({"state_dict": {}, "x": Evil()}, tmp_path / "model" / "last.ckpt")
    config = training_config(data, tmp_path, continue_training=True)
    with pytest.raises(UnsafeCheckpointError):
        run(config, arguments())
    assert not (tmp_path / "owned").exists()


def test_two_trainings_do_not_share_a_folder(data: Path, tmp_path: Path) -> None:
    with (
        locked(tmp_path / ".training.lock", what="it"),
        pytest.raises(BusyError),
    ):
        run(training_config(data, tmp_path), arguments())


def test_one_tomogram_is_divided(data: Path, tmp_path: Path) -> None:
    config = training_config(data, tmp_path, schedule={"max_epochs": 1}, train_files=["TS_1"])
    config = config.model_copy(update={"validation_ratio": 0.4})
    run(config, arguments())
    split = json.loads((tmp_path / "train_val_split.json").read_text())
    assert split == {"training": [], "validation": [], "shared": ["TS_1.mrc"]}


def test_mixed_precision(data: Path, tmp_path: Path) -> None:
    for precision in ("bf16", "fp32"):
        config = training_config(data, tmp_path / precision, schedule={"max_epochs": 2})
        run(config, arguments(precision=precision))
    mixed, exact = (step_losses(tmp_path / name) for name in ("bf16", "fp32"))
    assert mixed != exact
    assert mixed == pytest.approx(exact, rel=0.1)
    assert all(t.dtype != torch.bfloat16 for t in weights(tmp_path / "bf16").values())
    with pytest.raises(ConfigurationError):
        run(config, arguments(precision="fp16"))


def test_an_embedding_model_is_no_start_for_a_dense_task(
    data: Path, tmp_path: Path, golden: Path
) -> None:
    pretrained = golden / "ckpt" / "simsiam_plain.ckpt"
    with pytest.raises(CheckpointError, match="embeds whole particles"):
        run(training_config(data, tmp_path, pretrained_model=pretrained), arguments())
