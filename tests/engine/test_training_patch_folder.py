"""Training on patches from the disk: which ones are taken, and how one tomogram's are divided."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.config.training import PatchesConfig
from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.training.patch_files import run as cut_patches
from cryosiam_engine.training.patch_grid import place_of
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from cryosiam_engine.volume import read_volume, write_mrc
from training_runs import training_values, write_training_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of this test alone, so that it may be changed."""
    return write_training_data(tmp_path / "data", 2)


def values_of(data: Path, tmp_path: Path, overlap: float = 0.5) -> dict[str, Any]:
    values = training_values(data, tmp_path / "log")
    values |= {"patches_folder": str(tmp_path / "patches"), "file_extension": ".mrc"}
    values["parameters"]["data"]["patch_overlap"] = overlap
    return values


def cut(values: dict[str, Any], *names: str) -> None:
    report = cut_patches(PatchesConfig.model_validate(values), argparse.Namespace(filename=names))
    assert report.exit_code == 0


def opened(values: dict[str, Any], **changes: Any):
    config = TrainConfig.model_validate({**values, **changes})
    return training_volumes(config, fresh_split(config))


def status_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "patches" / "status").rglob("*.json"))


def test_the_source_is_told(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cryosiam_engine")
    values = values_of(data, tmp_path)
    opened(values)
    assert "drawn from the tomograms" in caplog.text
    assert str(tmp_path / "patches") in caplog.text
    cut(values)
    caplog.clear()
    training, _ = opened(values)
    assert f"read from {tmp_path / 'patches'} (patch_source: auto)" in caplog.text
    assert len(training) > 10
    caplog.clear()
    opened(values, patch_source="tomograms")
    assert "drawn from the tomograms." in caplog.text


@pytest.mark.parametrize("source", ["auto", "folder"])
def test_unfinished_patches_are_refused(data: Path, tmp_path: Path, source: str) -> None:
    values = values_of(data, tmp_path)
    cut(values, "TS_1")
    with pytest.raises(ConfigurationError, match=r"patches of TS_2 .* not all there") as told:
        opened(values, patch_source=source)
    assert "semantic_train_create_patches" in told.value.remedy
    cut(values)
    (status,) = [path for path in status_files(tmp_path) if path.stem == "TS_1"]
    said = json.loads(status.read_text())
    status.write_text(json.dumps({**said, "state": "running"}))
    with pytest.raises(ConfigurationError, match=r"patches of TS_1 .* not all there"):
        opened(values, patch_source=source)
    opened(values, patch_source="tomograms")


@pytest.mark.parametrize("what", ["labels", "tomogram", "overlap", "size", "a patch less"])
def test_stale_patches_are_refused(data: Path, tmp_path: Path, what: str) -> None:
    values = values_of(data, tmp_path)
    cut(values)
    opened(values)
    if what in ("labels", "tomogram"):
        path = data / ("classes" if what == "labels" else "tomograms") / "TS_2.mrc"
        volume = np.array(read_volume(path).data)
        volume[0, 0, 0] = 1
        state = path.stat()
        write_mrc(path, volume, voxel_size=10)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
        words = "patches of TS_2 .* other files"
    elif what == "overlap":
        values["parameters"]["data"]["patch_overlap"] = 0.25
        words = "patch_overlap was 0.5 and is 0.25"
    elif what == "size":
        values["parameters"]["data"]["patch_size"] = [24, 16, 16]
        words = "patch_size was"
    else:
        next((tmp_path / "patches" / "image").glob("TS_1_*")).unlink()
        words = "patches of TS_1 .* came or went"
    with pytest.raises(ConfigurationError, match=words):
        opened(values)
    cut(values)
    opened(values)


def test_patches_may_be_moved_and_the_tomograms_be_gone(data: Path, tmp_path: Path) -> None:
    values = values_of(data, tmp_path)
    cut(values)
    shutil.move(tmp_path / "patches", tmp_path / "elsewhere")
    shutil.rmtree(data / "classes")
    values |= {"patches_folder": str(tmp_path / "elsewhere"), "train_files": ["TS_1", "TS_2"]}
    training, validation = opened({**values, "labels_folder": None})
    assert len(training) == len(validation) == 2 * 3 * 4


def test_patches_of_the_original_are_taken_as_they_are(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = values_of(data, tmp_path)
    cut(values)
    shutil.rmtree(tmp_path / "patches" / "status")
    assert opened(values)[0]
    assert "does not say from what its patches were cut" in caplog.text


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_patches_of_one_tomogram_share_no_voxel(data: Path, tmp_path: Path, overlap: float) -> None:
    """Also where places have one, two and three digits, so that names sort in another order."""
    shape = (16, 20, 136)
    rng = np.random.default_rng(0)
    for folder in ("tomograms", "classes"):
        values = rng.integers(0, 3, shape).astype(np.int8 if folder == "classes" else np.float32)
        write_mrc(data / folder / "TS_1.mrc", values, voxel_size=10)
    settings = {**values_of(data, tmp_path, overlap), "train_files": ["TS_1"]}
    settings["validation_ratio"] = 0.2
    cut(settings)
    training, validation = opened(settings)
    marked = np.zeros(shape, np.int8)
    for bit, volumes in ((1, training), (2, validation)):
        for one in volumes:
            z, y, x = place_of(one.files["image"])
            marked[z : z + 16, y : y + 16, x : x + 16] |= bit
    assert not (marked == 3).any()
    learned, judged = (np.flatnonzero((marked & bit).any(axis=(0, 1))) for bit in (1, 2))
    assert learned.max() < judged.min()
    n_patches = len([*(tmp_path / "patches" / "image").iterdir()])
    assert 0.2 <= len(validation) / n_patches < 0.35
    # Nothing is left out but the gap.
    assert (len(training) + len(validation) == n_patches) == (overlap == 0)
    assert len(training) > len(validation)


def test_patches_that_all_overlap_cannot_be_divided(data: Path, tmp_path: Path) -> None:
    values = {**values_of(data, tmp_path, 0.75), "train_files": ["TS_1"]}
    values["parameters"]["data"]["patch_size"] = [24, 24, 24]
    cut(values)
    with pytest.raises(ConfigurationError, match="share voxels") as told:
        opened(values)
    assert "second tomogram" in told.value.remedy


@pytest.mark.parametrize("kind", ["labels", "clean version"])
def test_tomograms_without_labels_can_be_left_out(data: Path, tmp_path: Path, kind: str) -> None:
    task, folder = {"labels": ("semantic", "classes"), "clean version": ("denoising", "clean")}[
        kind
    ]
    values = training_values(data, tmp_path / "log", task)
    (data / folder / "TS_2.mrc").unlink()
    with pytest.raises(MaskError, match=rf"TS_2\.mrc has no {kind}") as told:
        opened(values)
    assert "list those in train_files" in told.value.remedy
    training, validation = opened(values, train_files=["TS_1"])
    assert [one.stem for one in itertools.chain(training, validation)] == ["TS_1", "TS_1"]
