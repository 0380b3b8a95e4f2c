"""Labels that a network cannot learn are refused before the first batch, wherever they are."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.config.training import PatchesConfig
from cryosiam_engine.errors import MaskError
from cryosiam_engine.training.command import run
from cryosiam_engine.training.patch_files import run as cut_patches
from cryosiam_engine.volume import read_volume, write_mrc
from training_runs import arguments, training_values, write_training_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of this test alone, so that it may be changed."""
    return write_training_data(tmp_path / "data")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def values_of(data: Path, tmp_path: Path, task: str = "semantic") -> dict:
    values = training_values(data, tmp_path / "log", task)
    values |= {"train_files": ["TS_1", "TS_2"], "val_files": ["TS_3"]}
    values["hyper_parameters"]["max_epochs"] = 1
    return values


def with_patches(values: dict, tmp_path: Path) -> dict:
    values |= {"patches_folder": str(tmp_path / "patches"), "patch_source": "folder"}
    values["parameters"]["data"]["patch_overlap"] = 0.0
    report = cut_patches(PatchesConfig.model_validate(values), argparse.Namespace(filename=[]))
    assert report.exit_code == 0
    return values


def put(path: Path, label: float) -> None:
    """One voxel of a label file."""
    labels = np.array(read_volume(path).data)
    labels[1, 2, 3] = label
    write_mrc(path, labels, voxel_size=10)


def refusal(values: dict) -> MaskError:
    """Of a training, and of its dry run: the same."""
    config = TrainConfig.model_validate(values)
    with pytest.raises(MaskError) as told:
        run(config, arguments())
    with pytest.raises(MaskError) as looked:
        run(config, arguments(dry_run=True))
    assert str(looked.value) == str(told.value)
    assert not (config.prediction_folder / "model").exists()
    return told.value


@pytest.mark.parametrize("name", ["TS_1", "TS_3"])
@pytest.mark.parametrize(
    ("label", "words"),
    [(7, "has the labels 7"), (-1, "negative labels"), (0.5, "fractions")],
)
def test_labels_of_a_tomogram(
    data: Path, tmp_path: Path, name: str, label: float, words: str
) -> None:
    path = data / "classes" / f"{name}.mrc"
    if label == 0.5:
        write_mrc(path, read_volume(path).data.astype(np.float32), voxel_size=10)
    put(path, label)
    error = refusal(values_of(data, tmp_path))
    assert words in error.message
    assert str(path) in error.message
    assert error.remedy


@pytest.mark.parametrize("name", ["TS_1", "TS_3"])
@pytest.mark.parametrize(("label", "words"), [(7, "has the labels 7"), (-1, "negative labels")])
def test_labels_of_a_patch(data: Path, tmp_path: Path, name: str, label: int, words: str) -> None:
    values = with_patches(values_of(data, tmp_path), tmp_path)
    path = tmp_path / "patches" / "labels" / f"{name}_z0_y0_x16.mrc"
    put(path, label)
    error = refusal(values)
    assert words in error.message
    assert str(path) in error.message


@pytest.mark.parametrize("task", ["semantic", "instance"])
@pytest.mark.parametrize("from_folder", [False, True])
def test_only_background(data: Path, tmp_path: Path, task: str, from_folder: bool) -> None:
    values = values_of(data, tmp_path, task)
    for name in ("TS_1", "TS_2"):
        path = Path(values["labels_folder"]) / f"{name}.mrc"
        write_mrc(path, 0 * read_volume(path).data, voxel_size=10)
    if from_folder:
        with_patches(values, tmp_path)
    assert "background (0) only" in refusal(values).message


def test_negative_instances(data: Path, tmp_path: Path) -> None:
    put(data / "instances" / "TS_3.mrc", -1)
    assert "negative labels" in refusal(values_of(data, tmp_path, "instance")).message


def test_all_files_that_do_not_fit_are_told_at_once(data: Path, tmp_path: Path) -> None:
    for name in ("TS_1", "TS_3"):
        put(data / "classes" / f"{name}.mrc", 9)
    error = refusal(values_of(data, tmp_path))
    assert "2 of 3 label files cannot be used" in error.message
    assert all(f"{name}.mrc has the labels 9" in error.message for name in ("TS_1", "TS_3"))


def test_validation_on_background_is_told(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = data / "classes" / "TS_3.mrc"
    write_mrc(path, 0 * read_volume(path).data, voxel_size=10)
    run(TrainConfig.model_validate(values_of(data, tmp_path)), arguments())
    assert "will not be judged" in caplog.text
