"""The window with the learning curves, on a real screen."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.gui

tkinter = pytest.importorskip("tkinter")

from cryosiam_plugin.viewers import training_window  # noqa: E402
from cryosiam_plugin.viewers.training_window import TrainingWindow  # noqa: E402

NAMES = {1: "membrane", 2: "ribosome"}
STEPS, EPOCHS = 20, 40


def settle(window, seconds=0.6):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        window.update()
        time.sleep(0.02)


def write_course(folder: Path, n_epochs: int) -> None:
    lines = []
    for number in range(1, n_epochs * STEPS + 1):
        epoch = 1 + (number - 1) // STEPS
        loss = 0.4 + 1.5 * math.exp(-number / 120) + 0.08 * math.sin(number * 1.7)
        rate = 1e-3 * math.sin(math.pi * number / (STEPS * EPOCHS))
        step = {"step": number, "epoch": epoch, "loss": loss, "lr": rate}
        lines.append({"kind": "step", **step})
        if number % STEPS == 0:
            dice = {f"val_dice_{c}": 1 - math.exp(-epoch / (5 * c + 1)) for c in (0, 1, 2)}
            val_loss = 0.5 + 1.4 * math.exp(-epoch / 5) + 0.004 * epoch
            means = {"train_loss": loss, "val_loss": val_loss, **dice}
            lines.append({"kind": "epoch", "step": number, "epoch": epoch, **means})
    partial = folder / "partial"
    partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
    partial.replace(folder / "metrics.jsonl")


def write_status(folder: Path, n_epochs: int, **values: object) -> None:
    path = folder / "status" / "semantic_train" / "training.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    summary = {"epochs": n_epochs, "max_epochs": EPOCHS, "steps": n_epochs * STEPS + 3}
    summary |= {"max_steps": EPOCHS * STEPS, "seconds_left": 4000, **values.pop("summary", {})}
    status = {"command": "semantic_train", "tomogram": "training", "state": "running"}
    here = {"host": socket.gethostname(), "process": os.getpid(), "outputs": []}
    path.write_text(json.dumps({**status, **here, "summary": summary, **values}))


@pytest.fixture
def viewer(root, tmp_path, monkeypatch):
    monkeypatch.setattr(training_window, "REFRESH", 100)
    viewer = TrainingWindow(tkinter.Toplevel(root), tmp_path, NAMES, "train semantic segmentation")
    settle(viewer.window)
    yield viewer
    if viewer.window.winfo_exists():
        viewer.window.destroy()


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_curves_appear_while_the_training_goes_on(viewer, tmp_path, screenshot):
    assert "not begun" in viewer.state["text"]
    assert viewer.stop_button.instate(["disabled"])
    write_course(tmp_path, 12)
    write_status(tmp_path, 12)
    settle(viewer.window, 1.0)
    screenshot("training-window")
    loss, dice, rate = viewer.figure.axes
    assert "validation" in labels(loss)
    assert [label.split(":")[0] for label in labels(dice)] == ["membrane", "ribosome"]
    assert len(rate.lines[0].get_xdata()) == 12 * STEPS
    assert max(rate.lines[0].get_xdata()) == 12
    assert viewer.state["text"] == "Epoch 13 of 40, step 243 of 800. About 1 h 07 min left."
    assert viewer.best["text"].startswith("Best: epoch 12, validation loss 0.67")
    assert viewer.stop_button.instate(["!disabled"])

    write_course(tmp_path, 13)
    settle(viewer.window, 0.6)
    assert "epoch 13" in viewer.best["text"]


def test_curves_are_on_the_screen(viewer, tmp_path, screenshot):
    write_course(tmp_path, 12)
    settle(viewer.window, 1.0)
    widget = viewer.canvas.get_tk_widget()
    left, top = widget.winfo_rootx(), widget.winfo_rooty()
    box = (left, top, left + widget.winfo_width(), top + widget.winfo_height())
    pixels = np.asarray(screenshot("training-curves").convert("RGB").crop(box), dtype=int)
    for colour in ((0, 114, 178), (213, 94, 0), (230, 159, 0), (86, 180, 233)):
        assert (np.abs(pixels - colour).max(axis=-1) < 12).sum() > 50, colour


def test_everything_fits(viewer, tmp_path):
    write_course(tmp_path, 3)
    write_status(tmp_path, 3)
    for size in ("1000x640", "640x420"):
        viewer.window.geometry(size)
        settle(viewer.window)
        right = viewer.window.winfo_rootx() + viewer.window.winfo_width()
        bottom = viewer.window.winfo_rooty() + viewer.window.winfo_height()
        for widget in (viewer.state, viewer.best, viewer.stop_button, viewer.hint):
            assert widget.winfo_rootx() + widget.winfo_width() <= right
            assert widget.winfo_rooty() + widget.winfo_height() <= bottom
            assert widget.winfo_width() >= widget.winfo_reqwidth()


@pytest.mark.parametrize("sure", [True, False])
def test_stopping_asks_once_and_leaves_the_file(viewer, tmp_path, monkeypatch, sure):
    asked = []

    def ask(*arguments, **options):
        asked.append(arguments)
        return sure

    monkeypatch.setattr(training_window.messagebox, "askyesno", ask)
    write_course(tmp_path, 2)
    write_status(tmp_path, 2)
    settle(viewer.window)
    viewer.stop_button.invoke()
    settle(viewer.window, 0.3)
    assert len(asked) == 1
    assert (tmp_path / "STOP").exists() == sure
    assert viewer.stop_button.instate(["disabled"]) == sure
    viewer.stop_button.invoke()
    assert len(asked) == (1 if sure else 2)
    write_status(tmp_path, 2, state="done", summary={"stopped_by": f"the file {tmp_path}/STOP"})
    settle(viewer.window, 0.3)
    assert "Stopped on request after 2 of 40" in viewer.state["text"]
    assert viewer.hint["text"] == ""


def test_a_folder_that_cannot_be_written(viewer, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(training_window.messagebox, "askyesno", lambda *a, **o: True)
    monkeypatch.setattr(training_window.messagebox, "showerror", lambda *a, **o: told.append(a))
    write_status(tmp_path, 2)
    settle(viewer.window, 0.3)
    viewer._folder = tmp_path / "gone"
    viewer.stop()
    assert len(told) == 1


def test_a_training_whose_process_is_gone(viewer, tmp_path):
    write_course(tmp_path, 2)
    write_status(tmp_path, 2, process=2**22 + 1)
    settle(viewer.window, 0.4)
    assert "Broken off after 2 of 40" in viewer.state["text"]
    assert viewer.stop_button.instate(["disabled"])
