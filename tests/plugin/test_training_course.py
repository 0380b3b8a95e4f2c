"""What the host reads of a training: its course, how far it is, what the dry run says."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from cryosiam_plugin.protocols.training_check import (
    TrainingCheckError,
    empty_message,
    last_message,
    read_report,
)
from cryosiam_plugin.protocols.training_course import METRICS_FILE, CourseReader, read_course
from cryosiam_plugin.protocols.training_progress import (
    BROKEN,
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    WAITING,
    duration,
    read_progress,
)

NAMES = {1: "membrane", 2: "ribosome"}


def step(number: int, epoch: int, loss: float = 1.0) -> str:
    values = {"kind": "step", "step": number, "epoch": epoch, "loss": loss, "lr": 1e-3}
    return json.dumps(values) + "\n"


def epoch(number: int, last_step: int, val_loss: float | None, **dice: float | None) -> str:
    values = {"kind": "epoch", "step": last_step, "epoch": number, "train_loss": 1.5}
    return json.dumps({**values, "val_loss": val_loss, **dice}) + "\n"


def test_epochs_and_steps_with_dice_by_class(tmp_path: Path) -> None:
    lines = [step(1, 1, 2.0), epoch(1, 1, 1.2, val_dice_0=0.9, val_dice_2=None, val_dice=0.7)]
    lines += [step(2, 2, 1.0), epoch(2, 2, 1.1, val_dice_0=0.9, val_dice_2=0.4)]
    (tmp_path / METRICS_FILE).write_text("".join(lines))
    course = read_course(tmp_path)
    assert [course.steps[number].loss for number in (1, 2)] == [2.0, 1.0]
    # val_dice is a part of the loss, and a class without voxels says nothing.
    assert [course.epochs[number].dice for number in (1, 2)] == [{0: 0.9}, {0: 0.9, 2: 0.4}]
    assert course.best is course.epochs[2]


def test_no_best_epoch_before_the_first_validation(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text(epoch(1, 1, None))
    assert read_course(tmp_path).best is None


def test_a_half_written_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path, line = tmp_path / METRICS_FILE, step(2, 1)
    reader = CourseReader(tmp_path)
    assert not reader.update()
    path.write_text(step(1, 1) + line[:20])
    assert reader.update()
    assert list(reader.course.steps) == [1]
    with path.open("a") as stream:
        stream.write(line[20:])
    assert reader.update()
    assert list(reader.course.steps) == [1, 2]
    assert not reader.update()


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    bad = ["{\n", "[1]\n", '{"kind": "step", "step": 1}\n', "\x00\n"]
    bad.append('{"kind": "step", "step": 1, "epoch": 1, "loss": null, "lr": 0}\n')
    (tmp_path / METRICS_FILE).write_text("".join([*bad, step(3, 1)]))
    assert list(read_course(tmp_path).steps) == [3]


def test_a_training_that_goes_on_is_read_anew(tmp_path: Path) -> None:
    """The engine then writes the file again, without the epoch that was broken off."""
    path = tmp_path / METRICS_FILE
    path.write_text("".join([step(1, 1), epoch(1, 1, 1.0), step(2, 2, 9.0), step(3, 2, 9.0)]))
    reader = CourseReader(tmp_path)
    reader.update()
    partial = tmp_path / "partial"
    # As long as before: only that it is another file tells.
    partial.write_text("".join([step(1, 1), epoch(1, 1, 1.0), step(2, 2, 5.0), step(3, 2, 5.0)]))
    partial.replace(path)
    assert reader.update()
    assert [s.loss for s in reader.course.steps.values()] == [1.0, 5.0, 5.0]


# ------------------------------------------------------------------ progress


def write_status(folder: Path, **values: object) -> None:
    path = folder / "status" / "semantic_train" / "training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    status = {"command": "semantic_train", "tomogram": "training", "state": "running"}
    here = {"host": socket.gethostname(), "process": os.getpid()}
    path.write_text(json.dumps({**status, **here, "outputs": [], **values}))


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, RUNNING),
        ({"process": 2**22 + 1}, BROKEN),
        ({"host": "elsewhere", "updated": "2020-01-01T00:00:00+00:00"}, BROKEN),
        ({"state": "failed", "error": {"message": "No.", "remedy": "Do."}}, FAILED),
        ({"state": "done", "summary": {"stopped_by": ""}}, DONE),
        ({"state": "done", "summary": {"stopped_by": "the file /a b/STOP"}}, STOPPED),
    ],
)
def test_states(tmp_path: Path, values: dict, state: str) -> None:
    write_status(tmp_path, **values)
    progress = read_progress(tmp_path)
    assert progress.state == state
    assert not progress.can_stop
    assert progress.problem == ("No. Do." if state == FAILED else "")


def test_nothing_has_begun(tmp_path: Path) -> None:
    assert read_progress(tmp_path).state == WAITING


def test_only_a_training_with_a_step_can_be_stopped(tmp_path: Path) -> None:
    """Before that the engine would take away the request, as one of an earlier run."""
    write_status(tmp_path, summary={"steps": 1, "max_steps": 8, "epochs": 0, "max_epochs": 2})
    assert read_progress(tmp_path).can_stop


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (720, "12 min"), (11100, "3 h 05 min"), (3599, "1 h 00 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# ------------------------------------------------------------------ the dry run


def write_report(folder: Path, voxels: dict, warnings: list | None = None) -> None:
    report = {
        "training_tomograms": ["TS_01"],
        "validation_tomograms": ["TS_02"],
        "hours": 1.5,
        "memory_gib": 2.0,
        "voxels_per_class": voxels,
        "warnings": warnings or [],
    }
    (folder / "dry_run.json").write_text(json.dumps(report))


def test_a_class_must_be_there_to_be_learned(tmp_path: Path) -> None:
    """That it is in a tomogram for validation does not help."""
    voxels = {"TS_01": {"0": 90, "1": 10}, "TS_02": {"0": 90, "2": 10}}
    write_report(tmp_path, voxels, ["Class 2 is in none of the tomograms."])
    report = read_report(tmp_path, NAMES)
    assert report.empty == [2]
    assert report.voxels == {0: 180, 1: 10, 2: 10}
    assert "ribosome (2)" in empty_message(report.empty, NAMES)
    (note,) = report.notes
    assert "membrane" in note
    assert "validation" in note


def test_warnings_name_the_classes(tmp_path: Path) -> None:
    both = {"0": 10**6, "1": 9000, "2": 3}
    warnings = ["Class 2 is rare: 6 voxels of 2018006.", "TS_01.mrc has voxels of 1 Å."]
    write_report(tmp_path, {"TS_01": both, "TS_02": both}, warnings)
    assert read_report(tmp_path, NAMES).notes == [
        "There is little ribosome: 6 voxels of 2018006.",
        "TS_01.mrc has voxels of 1 Å.",
    ]


def test_a_report_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TrainingCheckError):
        read_report(tmp_path, NAMES)


def test_the_last_message_is_what_the_user_needs(tmp_path: Path) -> None:
    log = tmp_path / "engine_1.log"
    log.write_text("INFO    begins\nWARNING something\nA file is missing. Give it.\n")
    assert last_message(log) == "A file is missing. Give it."
    log.write_text('INFO  begins\nTraceback (most recent call last):\n  File "x"\nOSError: no\n')
    assert last_message(log) == "OSError: no"
    assert last_message(tmp_path / "none") == ""
