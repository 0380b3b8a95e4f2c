"""What a training goes on from, and what it must not."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.config.training import PatchesConfig
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.training.command import run
from cryosiam_engine.training.input_files import InputFile
from cryosiam_engine.training.metrics import read_metrics
from cryosiam_engine.training.modules import Training
from cryosiam_engine.training.patch_files import run as cut_patches
from cryosiam_engine.volume import read_volume, write_mrc
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


def begun(data: Path, log: Path, **changes: object) -> TrainConfig:
    """A training of one epoch that is gone on with: at once over, unless it is refused."""
    config = training_config(data, log, schedule={"max_epochs": 1}, **changes)
    run(config, arguments())
    return config.model_copy(update={"continue_training": True})


def change_one_voxel(path: Path) -> None:
    """Keeps the file's size and its time of change."""
    state = path.stat()
    volume = np.array(read_volume(path).data)
    volume[-1, -1, -1] = 0 if volume[-1, -1, -1] else 1
    write_mrc(path, volume, voxel_size=10)
    assert path.stat().st_size == state.st_size
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


@pytest.mark.parametrize("what", ["a label", "a tomogram", "a tomogram more"])
def test_a_training_goes_on_with_its_own_files_only(data: Path, tmp_path: Path, what: str) -> None:
    config = begun(data, tmp_path / "log")
    before = weights(tmp_path / "log")
    if what == "a label":
        change_one_voxel(data / "classes" / "TS_2.mrc")
        changed = r"labels/TS_2\.mrc changed"
    elif what == "a tomogram":
        change_one_voxel(data / "tomograms" / "TS_1.mrc")
        changed = r"image/TS_1\.mrc changed"
    else:
        write_training_data(data, 3)
        changed = "other tomograms"
    with pytest.raises(ConfigurationError, match=changed) as told:
        run(config, arguments())
    assert "continue_training to False" in told.value.remedy
    assert same(weights(tmp_path / "log"), before)


def test_a_patch_more_is_noticed(data: Path, tmp_path: Path) -> None:
    values = training_values(data, tmp_path / "log")
    values |= {"patches_folder": str(tmp_path / "patches"), "continue_training": True}
    values["parameters"]["data"]["patch_overlap"] = 0.0
    values["hyper_parameters"]["max_epochs"] = 1
    cut_patches(PatchesConfig.model_validate(values), argparse.Namespace(filename=[]))
    config = TrainConfig.model_validate(values)
    run(config, arguments())
    run(config, arguments())
    # As of CryoSiam's own patches nothing is known of them.
    shutil.rmtree(tmp_path / "patches" / "status")
    for kind in ("image", "labels"):
        folder = tmp_path / "patches" / kind
        shutil.copy(folder / "TS_1_z0_y0_x0.mrc", folder / "TS_1_z1_y0_x0.mrc")
    with pytest.raises(ConfigurationError, match="image/TS_1_z1_y0_x0"):
        run(config, arguments())


def test_copies_of_the_files_are_the_files(data: Path, tmp_path: Path) -> None:
    """On another node's disk, or in a project that was moved."""
    config = begun(data, tmp_path / "log")
    copies = {}
    for key, folder in (("data_folder", "tomograms"), ("labels_folder", "classes")):
        copies[key] = tmp_path / "copy" / folder
        shutil.copytree(data / folder, copies[key], copy_function=shutil.copyfile)
    shutil.rmtree(data)
    assert run(config.model_copy(update=copies), arguments()).done == ["training"]


def test_a_training_of_an_earlier_version_goes_on(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = begun(data, tmp_path / "log")
    noted = tmp_path / "log" / "training_inputs.json"
    noted.unlink()
    run(config, arguments())
    assert "not known from which files" in caplog.text
    noted.write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        run(config, arguments())


def test_a_large_tomogram_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.mrc"
    with path.open("wb") as stream:
        stream.truncate(300 * 2**16 + 1024)
    noted = InputFile.of(path, "image")

    def written(place: int) -> Path:
        with path.open("r+b") as stream:
            stream.seek(place)
            stream.write(b"changed")
        os.utime(path, ns=(0, place))
        return path

    assert noted.is_same(written(2**16 + 5), "image")
    assert not noted.is_same(written(8 * 2**16 + 5), "image")
    labels = InputFile.of(path, "labels")
    assert not labels.is_same(written(2**16 + 50), "labels")


def test_the_old_default_of_momentum_had_no_effect(data: Path, tmp_path: Path) -> None:
    """A training that was begun with it written down goes on."""
    config = begun(data, tmp_path / "log")
    for name in ("last.ckpt", "model_best.ckpt"):
        path = tmp_path / "log" / "model" / name
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["hyper_parameters"]["config"]["hyper_parameters"]["momentum"] = 0.9
        torch.save(checkpoint, path)
    assert run(config, arguments()).done == ["training"]
    sgd = config.schedule.model_copy(update={"momentum": 0.8})
    with pytest.raises(ConfigurationError, match=r"momentum was 0\.9 and is 0\.8"):
        run(config.model_copy(update={"schedule": sgd}), arguments())


#: Of each task all that could make a difference, and the arithmetic.
COURSES: dict[str, tuple[str, dict, str]] = {
    "denoising": ("denoising", {"network": {"loss_type": "combined"}}, "fp32"),
    "instance": ("instance", {}, "fp32"),
    "embedding": ("embedding", {"masking_type": 1, "patches": {"patch_size": (16,) * 3}}, "fp32"),
    "bf16": ("semantic", {}, "bf16"),
    "workers that read ahead": ("semantic", {"schedule": {"num_workers": 2}}, "fp32"),
    "everything": (
        "semantic",
        {
            "network": {"distance_prediction": True, "use_dice_loss": True, "out_channels": 3},
            "transforms": {
                "elastic": (5, 40),
                "low_pass_sigma_range": (0, 1),
                "high_pass_sigma_range": (0, 1),
                "high_pass_sigma2_range": (2, 3),
                "combine_transforms": True,
                "scale_intensity_factors": (-0.2, 0.2),
            },
        },
        "fp32",
    ),
}


@pytest.mark.parametrize("course", COURSES)
def test_every_training_goes_on_exactly(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, course: str
) -> None:
    task, changes, precision = COURSES[course]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    schedule = {"max_epochs": 2, "batch_size": 2, "val_interval": 2, **changes.get("schedule", {})}
    changes = {**changes, "schedule": schedule}
    configs = [training_config(data, log, task, **changes) for log in (undisturbed, killed)]
    how = arguments(precision=precision)
    run(configs[0], how)
    n_steps = len(step_losses(undisturbed)) // 2
    with monkeypatch.context() as patched:
        patched.setattr(Training, "training_step", killed_at(n_steps + 1))
        with pytest.raises(Killed):
            run(configs[1], how)
    assert len(step_losses(killed)) == n_steps + 1
    run(configs[1].model_copy(update={"continue_training": True}), how)
    assert same(weights(killed), weights(undisturbed))
    assert same(weights(killed, "model_best.ckpt"), weights(undisturbed, "model_best.ckpt"))
    assert step_losses(killed) == step_losses(undisturbed)
    assert np.isfinite(step_losses(killed)).all()


def test_all_parts_of_the_loss_fall(data: Path, tmp_path: Path) -> None:
    """Of classes, overlap and distances, on bent patches."""
    config = training_config(
        data,
        tmp_path / "log",
        network={"distance_prediction": True, "use_dice_loss": True, "out_channels": 3},
        transforms={"elastic": (5, 40), "noise_sigma_range": None, "zoom": None},
        patches={"patches_per_epoch": 24},
        schedule={"max_epochs": 6, "lr": 0.02},
    )
    run(config, arguments())
    epochs = [line for line in read_metrics(tmp_path / "log") if line["kind"] == "epoch"]
    for part in ("val_classes", "val_dice", "val_distances"):
        assert epochs[-1][part] < 0.95 * epochs[0][part]
