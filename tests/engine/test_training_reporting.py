"""What a training tells while it runs, and what it leaves when it is killed."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from cryosiam_engine.status import read_status, status_folder, status_path
from cryosiam_engine.training import following, metrics, reporting
from cryosiam_engine.training.command import run
from cryosiam_engine.training.following import followed
from cryosiam_engine.training.metrics import read_metrics
from cryosiam_engine.training.modules import Training
from training_runs import Killed, arguments, training_config, write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training_reporting"))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_long_validation_shows_that_it_is_alive(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cryosiam_engine")
    monkeypatch.setattr(reporting, "_INTERVAL", 0.0)
    written: list[int] = []
    original = Training.validation_step

    def validating(self: Training, batch: Any, index: int) -> None:
        path = status_path(status_folder(tmp_path, "train"), "training")
        written.append(path.stat().st_ino)
        original(self, batch, index)

    monkeypatch.setattr(Training, "validation_step", validating)
    run(training_config(data, tmp_path, schedule={"batch_size": 1, "max_epochs": 1}), arguments())
    assert len(written) == 4
    assert all(one != other for one, other in zip(written[1:], written, strict=False))
    assert "validation: batch 2 of 4" in caplog.text


def test_looking_through_many_files_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cryosiam_engine")
    monkeypatch.setattr(following, "LINE_SECONDS", 0.0)
    assert [*followed("abc", "Looking")] == ["a", "b", "c"]
    assert "Looking: 2 of 3 files" in caplog.text
    caplog.clear()
    monkeypatch.setattr(following, "is_first_process", lambda: False)
    assert [*followed("abc", "Looking")] == ["a", "b", "c"]
    assert not caplog.text


def test_labels_are_looked_through_with_progress(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cryosiam_engine")
    monkeypatch.setattr(following, "LINE_SECONDS", 0.0)
    run(training_config(data, tmp_path, schedule={"max_epochs": 1}), arguments())
    assert "Looking through the labels: 2 of 3 files" in caplog.text
    assert "Noting the files of the training: 5 of 6 files" in caplog.text


def test_losses_that_are_asked_for_together_are_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: three at once, of an epoch of two, and of one of eight."""
    for size in (1, 4):
        lines = []
        for name, together in (("each", 1), ("together", 3)):
            folder = tmp_path / f"{name} {size}"
            monkeypatch.setattr(metrics, "_steps_at_once", lambda device, n=together: n)
            schedule = {"max_epochs": 2, "batch_size": size}
            run(training_config(data, folder, schedule=schedule), arguments())
            lines.append([{**line, "seconds": 0} for line in read_metrics(folder)])
        assert lines[0] == lines[1]
        assert len(lines[0]) == 2 * (8 // size) + 2


def test_what_a_killed_process_left_is_removed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the training goes on."""
    config = training_config(data, tmp_path, schedule={"max_epochs": 1}, continue_training=True)
    run(config, arguments())
    stale = tmp_path / "model" / ".last.partial-4711.ckpt"
    stale.write_bytes(b"half")
    run(config, arguments())
    assert sorted(p.name for p in stale.parent.iterdir()) == ["last.ckpt", "model_best.ckpt"]


def test_checkpoints_are_on_the_disk_before_they_replace_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    replaced: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def syncing(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def replacing(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".ckpt":
            assert self.name in synced
            replaced.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", replacing)
    run(training_config(data, tmp_path, schedule={"max_epochs": 1}), arguments())
    assert replaced == ["model_best.ckpt", "last.ckpt"]


def test_a_kill_after_the_checkpoint_loses_no_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The curves are written before the checkpoint that they lead to."""
    config = training_config(data, tmp_path, schedule={"max_epochs": 2}, continue_training=True)

    def dying(self: reporting.Report, trainer: Any, module: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(reporting.Report, "on_train_epoch_end", dying)
        with pytest.raises(Killed):
            run(config, arguments())
    assert torch.load(tmp_path / "model" / "last.ckpt", weights_only=True)["global_step"] == 2
    run(config, arguments())
    epochs = [line["epoch"] for line in read_metrics(tmp_path) if line["kind"] == "epoch"]
    assert epochs == [1, 2]
    status = read_status(status_folder(tmp_path, "train"), "training")
    assert status is not None
    assert status.summary["epochs"] == 2
