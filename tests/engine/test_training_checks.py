"""What is told before a training: inputs that do not fit, and the dry run's report."""

from __future__ import annotations

import json
import mmap
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.training.command import run
from cryosiam_engine.training.dry_run import _step_seconds
from cryosiam_engine.training.label_checks import look_through_labels
from cryosiam_engine.training.label_report import report_labels
from cryosiam_engine.training.peak_memory import PeakMemory
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from cryosiam_engine.volume import read_volume, write_mrc
from training_runs import arguments, training_config, training_values, write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_checks"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_wrong_inputs_are_told(data: Path, tmp_path: Path) -> None:
    classes = training_config(data, tmp_path, network={"out_channels": 2})
    with pytest.raises(MaskError, match="labels 2"):
        run(classes, arguments())
    with pytest.raises(ConfigurationError, match="labels_folder is missing"):
        run(training_config(data, tmp_path, labels_folder=None), arguments())
    with pytest.raises(ConfigurationError, match="gt_folder is missing"):
        config = training_config(data, tmp_path, "denoising", gt_folder=None)
        quiet = config.transforms.model_copy(update={"noise_sigma_range": None})
        run(config.model_copy(update={"transforms": quiet}), arguments())
    empty = tmp_path / "empty"
    for path in (data / "classes").iterdir():
        write_mrc(empty / path.name, 0 * read_volume(path).data, voxel_size=10)
    with pytest.raises(MaskError, match="background"):
        run(training_config(data, tmp_path, labels_folder=empty), arguments())
    small = tmp_path / "small"
    for path in (data / "classes").iterdir():
        write_mrc(small / path.name, read_volume(path).data[:-1], voxel_size=10)
    with pytest.raises(MaskError, match="size"):
        run(training_config(data, tmp_path, labels_folder=small), arguments())
    with pytest.raises(ConfigurationError, match="fewer than one batch"):
        run(training_config(data, tmp_path, schedule={"batch_size": 64}), arguments())


def test_a_dry_run_reports_and_keeps_no_model(data: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    for path in (data / "classes").iterdir():
        write_mrc(odd / path.name, read_volume(path).data, voxel_size=5)
    config = training_config(data, tmp_path, labels_folder=odd, network={"out_channels": 4})
    report = run(config, arguments(dry_run=True))
    assert report.skipped == ["training"]
    told = json.loads((tmp_path / "dry_run.json").read_text())
    true = read_volume(data / "classes" / "TS_1.mrc").data
    assert told["voxels_per_class"]["TS_1"] == {str(c): int((true == c).sum()) for c in range(3)}
    assert any("Class 3 is in none" in warning for warning in told["warnings"])
    assert any("5 Å" in warning for warning in told["warnings"])
    assert told["steps_per_epoch"] == 2
    assert told["seconds_per_step"] > 0
    assert not (tmp_path / "model").exists()


def test_all_files_of_another_size_are_told_at_once(data: Path, tmp_path: Path) -> None:
    for path in (data / "classes").iterdir():
        cut = 2 if path.stem == "TS_2" else 0
        labels = read_volume(path).data
        write_mrc(tmp_path / path.name, labels[: len(labels) - cut], voxel_size=10)
    (tmp_path / "TS_3.mrc").unlink()
    config = training_config(data, tmp_path / "log", labels_folder=tmp_path)
    with pytest.raises(MaskError, match="2 of 3 tomograms cannot be used") as told:
        run(config, arguments(dry_run=True))
    assert "TS_2.mrc has the size (22, 32, 40)" in told.value.message
    assert "TS_3.mrc" in told.value.message
    assert "TS_1.mrc" not in told.value.message
    assert "same binning" in told.value.remedy


def test_labels_outside_of_their_tomogram_are_told(data: Path, tmp_path: Path) -> None:
    places = {"TS_1": (0, 0, 0), "TS_2": (400, 0, 0), "TS_3": (0, 0, 10)}
    for folder, given in (("tomograms", {"TS_3": (0, 0, 5)}), ("classes", places)):
        for path in (data / folder).iterdir():
            origin = given.get(path.stem, (100, 0, 0))
            write_mrc(
                tmp_path / folder / path.name, read_volume(path).data, voxel_size=10, origin=origin
            )
    config = training_config(tmp_path, tmp_path / "log", validation_ratio=0.3)
    training, validation = training_volumes(config, fresh_split(config))
    found = look_through_labels(config, training, validation, with_places=False)
    told = report_labels(config, training, validation, found).warnings
    assert len(told) == 1
    assert "TS_2.mrc lies elsewhere" in told[0]
    assert "begins at (400, 0, 0) Å, the tomogram at (100, 0, 0) Å" in told[0]


@pytest.mark.parametrize("task", ["denoising", "embedding"])
def test_the_task_of_the_command_line(data: Path, tmp_path: Path, task: str) -> None:
    values = training_values(data, tmp_path / "log", task)
    values["task"] = "semantic"
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    words = ["train", "--config_file", str(tmp_path / "train.yaml"), "--device", "cpu"]
    assert main([*words, "--task", task, "--dry_run"]) == 0
    told = json.loads((tmp_path / "log" / "dry_run.json").read_text())
    classes = {label for counts in told["voxels_per_class"].values() for label in counts}
    # Of particles it does not matter which number they have; denoising needs none.
    assert classes == ({"0", "1"} if task == "embedding" else set())
    assert 0 < abs(told["loss"]) <= 1
    assert told["memory_gib"] >= 0
    assert told["seconds_per_step"] > 0


class Sampled:
    """The highest memory of this process while a block runs, looked at from a thread."""

    def __enter__(self) -> Sampled:
        self.process, self.over = psutil.Process(), threading.Event()
        self.before = self.highest = self.process.memory_info().rss
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self) -> None:
        while not self.over.wait(0.001):
            self.highest = max(self.highest, self.process.memory_info().rss)

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()


def test_a_dry_run_tells_the_peak_of_memory(data: Path, tmp_path: Path) -> None:
    """Not what is left after a step, which is far less."""
    run(training_config(data, tmp_path), arguments(dry_run=True))  # imports what there is
    # Arrays so large that freed ones go back to the system.
    network = {"filters": (128, 8), "kernel_size": 1}
    patches = {"patch_size": (48, 48, 48), "patches_per_epoch": 2}
    config = training_config(
        data, tmp_path, patches=patches, network=network, schedule={"batch_size": 2}
    )
    with Sampled() as sampled:
        run(config, arguments(dry_run=True))
    told = json.loads((tmp_path / "dry_run.json").read_text())["memory_gib"]
    grown = (sampled.highest - sampled.before) / 2**30
    assert grown > 0.3
    assert told == pytest.approx(grown, rel=0.2)


def test_a_dry_run_tells_a_peak_below_an_earlier_one() -> None:
    """Which the system's record of the highest peak does not know of."""

    def take(n_bytes: int) -> None:
        # From the system, not out of what earlier tests have left in the process.
        with mmap.mmap(-1, n_bytes) as block:
            for first in range(0, n_bytes, mmap.PAGESIZE):
                block[first] = 1
            time.sleep(0.05)

    take(2**29)
    with PeakMemory(torch.device("cpu")) as memory:
        take(2**27)
    assert memory.n_bytes == pytest.approx(2**27, rel=0.1)


@pytest.mark.parametrize(
    ("reading", "computing", "workers", "seconds"),
    [(3.0, 1.0, 0, 4.0), (3.0, 1.0, 1, 3.0), (3.0, 1.0, 2, 1.5), (3.0, 1.0, 8, 1.0)],
)
def test_workers_read_while_others_compute(
    reading: float, computing: float, workers: int, seconds: float
) -> None:
    assert _step_seconds(reading, computing, workers) == seconds
