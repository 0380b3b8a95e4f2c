from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryosiam_engine.errors import Interrupted, OutputError, TomogramError
from cryosiam_engine.locks import locked
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import (
    FileIdentity,
    Output,
    accept_changed_output,
    read_status,
    status_folder,
)


class Upper(TomogramCommand[str, tuple[str, str]]):
    """Writes a text file in capitals; a file that says 'bad' cannot be computed."""

    name = "upper_predict"

    def __init__(self, folder: Path, setting: int = 0) -> None:
        self.folder = folder
        self.setting = setting
        self.computed: list[str] = []
        self.events: list[tuple[str, str, str]] = []

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        return {"setting": self.setting, "inputs": [vars(FileIdentity.of(tomogram.path))]}

    def load(self, tomogram: Tomogram) -> str:
        self.events.append(("load", tomogram.stem, threading.current_thread().name))
        return f"{tomogram.stem}:{tomogram.path.read_text()}"

    def compute(self, loaded: str, progress: Progress) -> tuple[str, str]:
        stem, text = loaded.split(":")
        self.events.append(("compute", stem, threading.current_thread().name))
        if text == "bad":
            raise TomogramError(f"{stem} is bad.", remedy="Throw it away.")
        if text == "stop":
            signal.raise_signal(signal.SIGTERM)
        progress(1, 1)
        self.computed.append(stem)
        return stem, text.upper()

    def save(self, result: tuple[str, str]) -> Saved:
        stem, text = result
        self.events.append(("save", stem, threading.current_thread().name))
        if text == "FULL":
            raise OutputError("No space left.", remedy="Free space.")
        path = self.folder / f"{stem}.out"
        path.write_text(text)
        return Saved([Output(FileIdentity.of(path), "labels", (1, 1, 1))], {"n": 1}, ["careful"])


def tomograms(folder: Path, **texts: str) -> list[Tomogram]:
    result = []
    for stem, text in texts.items():
        path = folder / f"{stem}.txt"
        path.write_text(text)
        result.append(Tomogram(path, stem))
    return result


def run(command: Upper, items: list[Tomogram], **options: bool) -> Any:
    return TomogramLoop(command, status_folder(command.folder, command.name), **options).run(items)


def status(folder: Path, stem: str) -> dict[str, Any]:
    return json.loads((folder / "status" / f"{stem}.json").read_text())


def test_a_bad_tomogram_fails_alone(tmp_path: Path) -> None:
    command = Upper(tmp_path)
    items = tomograms(tmp_path, a="x", b="bad", c="full", d="y")
    items.append(Tomogram(tmp_path / "gone.txt", "gone"))
    report = run(command, items)
    assert report.done == ["a", "d"]
    assert set(report.failed) == {"b", "c", "gone"}
    assert report.exit_code == 1
    assert (tmp_path / "d.out").read_text() == "Y"
    failed = status(tmp_path, "b")
    assert failed["state"] == "failed"
    assert failed["error"] == {
        "type": "TomogramError",
        "message": "b is bad.",
        "remedy": "Throw it away.",
    }
    done = status(tmp_path, "a")
    assert done["state"] == "done"
    assert done["warnings"] == ["careful"]
    assert set(done["seconds"]) == {"read", "predict", "write"}


def test_reads_ahead_and_writes_behind_in_one_other_thread(tmp_path: Path) -> None:
    command = Upper(tmp_path)
    run(command, tomograms(tmp_path, a="1", b="2", c="3"))
    threads = {(kind, thread) for kind, _, thread in command.events}
    background = {thread for kind, thread in threads if kind != "compute"}
    assert len(background) == 1
    assert background.isdisjoint(thread for kind, thread in threads if kind == "compute")
    order = [(kind, stem) for kind, stem, _ in command.events]
    # b is read before or while a is computed, never only after a was saved and b asked for.
    assert order.index(("load", "b")) < order.index(("compute", "b"))
    # A result is written before the tomogram after the next is read: one volume in flight.
    assert order.index(("save", "a")) < order.index(("load", "c"))


def test_a_second_run_does_only_what_is_missing(tmp_path: Path) -> None:
    items = tomograms(tmp_path, a="x", b="y", c="z")
    run(Upper(tmp_path), items)
    again = Upper(tmp_path)
    assert run(again, items).skipped == ["a", "b", "c"]
    assert again.computed == []

    (tmp_path / "a.out").unlink()  # a result was deleted
    (tmp_path / "b.txt").write_text("another tomogram")  # an input was replaced
    third = Upper(tmp_path)
    run(third, items)
    assert third.computed == ["a", "b"]

    other = Upper(tmp_path, setting=1)  # the configuration changed
    run(other, items)
    assert other.computed == ["a", "b", "c"]
    forced = Upper(tmp_path, setting=1)
    run(forced, items, overwrite=True)
    assert forced.computed == ["a", "b", "c"]


def test_a_change_made_on_purpose_keeps_the_result_valid(tmp_path: Path) -> None:
    items = tomograms(tmp_path, a="x")
    run(Upper(tmp_path), items)
    output = tmp_path / "a.out"
    output.write_text("filtered")
    accept_changed_output(tmp_path / "status", "a", output)
    assert run(Upper(tmp_path), items).skipped == ["a"]


def test_a_spoilt_status_is_no_status(tmp_path: Path) -> None:
    items = tomograms(tmp_path, a="x")
    run(Upper(tmp_path), items)
    (tmp_path / "status" / "a.json").write_text('{"command": "upper_predict", "tomo')
    assert read_status(tmp_path / "status", "a") is None
    assert run(Upper(tmp_path), items).done == ["a"]


def test_sigterm_keeps_what_is_finished(tmp_path: Path) -> None:
    items = tomograms(tmp_path, a="x", b="stop", c="y")
    with pytest.raises(Interrupted) as stopped:
        run(Upper(tmp_path), items)
    assert stopped.value.signal_number == signal.SIGTERM
    assert status(tmp_path, "a")["state"] == "done"
    assert status(tmp_path, "b")["error"]["type"] == "interrupted"
    assert not (tmp_path / "status" / "c.json").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    (tmp_path / "b.txt").write_text("go on")
    report = run(Upper(tmp_path), items)
    assert report.skipped == ["a"]
    assert report.done == ["b", "c"]


def test_another_run_on_the_same_tomogram_is_refused(tmp_path: Path) -> None:
    items = tomograms(tmp_path, a="x", b="y")
    lock = tmp_path / "status" / ".a.lock"
    lock.parent.mkdir()
    code = (
        "import sys, time; from pathlib import Path; from cryosiam_engine.locks import locked\n"
        "with locked(Path(sys.argv[1]), what='it'): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        report = run(Upper(tmp_path), items)
        assert "another run" in report.failed["a"]
        assert report.done == ["b"]
        assert not (tmp_path / "status" / "a.json").exists()  # the other run's to write
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert run(Upper(tmp_path), items).done == ["a"]  # the lock died with its process


def test_waiting_for_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []

    def hold() -> None:
        with locked(path, what="it"):
            order.append("first")
            time.sleep(0.2)
            order.append("first ends")

    thread = threading.Thread(target=hold)
    thread.start()
    while not order:
        time.sleep(0.01)
    with locked(path, what="it", wait=True):
        order.append("second")
    thread.join()
    assert order == ["first", "first ends", "second"]
