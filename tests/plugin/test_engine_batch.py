"""Following engine processes, with a stand-in that writes status files as the engine does."""

from __future__ import annotations

import json
import logging
import threading

import pytest

from cryosiam_plugin.engine_status import status_folder
from cryosiam_plugin.protocols import engine_batch
from cryosiam_plugin.protocols.engine_batch import EngineBatch, EngineStopped, Stage
from cryosiam_plugin.protocols.engine_process import ProcessEnd

PREDICT, CENTERS = "semantic_predict", "semantic_to_centers"
WELL = ProcessEnd(0)
KILLED = ProcessEnd(137)
ASKED_TO_STOP = ProcessEnd(143)


class Engine:
    """Does what `plan` says of (command, tsId): done, failed, interrupted, dies or stopped.

    Once; then it is done. Keeps the calls, and the results that the batch handed on.
    """

    def __init__(self, folder, plan=None):
        self.folder = folder
        self.plan = dict(plan or {})
        self.calls: list[tuple[str, list[str]]] = []
        self.done: list[tuple[str, str, str]] = []
        self.failed: dict[str, str] = {}

    def launch(self, command, ts_ids):
        self.calls.append((command, list(ts_ids)))
        end = WELL
        for ts_id in ts_ids:
            fate = self.plan.pop((command, ts_id), "done")
            if fate == "no start":
                return ProcessEnd(2, "no such model")
            self.write(command, ts_id, "running")
            if fate == "dies":
                return KILLED
            if fate == "stopped":
                self.write(command, ts_id, "failed", "interrupted")
                return ASKED_TO_STOP
            self.write(command, ts_id, fate)
            end = ProcessEnd(1) if fate == "failed" else end
        return end

    def write(self, command, ts_id, state, error_type="TomogramError"):
        folder = status_folder(self.folder, command)
        folder.mkdir(parents=True, exist_ok=True)
        status = {"command": command, "tomogram": ts_id, "state": state, "outputs": []}
        if state == "failed":
            status["error"] = {"type": error_type, "message": f"{ts_id} broke.", "remedy": "Mend."}
        if state == "done":
            status["outputs"] = [self.output(command, ts_id)]
        partial = folder / f".{ts_id}.part"
        partial.write_text(json.dumps(status))
        partial.replace(folder / f"{ts_id}.json")

    def output(self, command, ts_id):
        path = self.folder / f"{ts_id}_{command}.mrc"
        path.write_text(ts_id)
        found = path.stat()
        file = {"path": str(path), "size": found.st_size, "mtime_ns": found.st_mtime_ns}
        return {"file": file, "kind": "labels", "shape": [1, 1, 1]}

    def run(self, commands, ts_ids, *, side_by_side=False, on_done=None):
        stages = [Stage.of(command, str(self.folder)) for command in commands]
        hand_on = on_done or self.on_done
        fail = self.failed.__setitem__
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_batch, "POLL_SECONDS", 0.01 if side_by_side else 600)
            EngineBatch(stages, self.launch, hand_on, fail).run(ts_ids)

    def on_done(self, ts_id, first, last):
        self.done.append((ts_id, first.command, last.command))


IDS = ["TS_01", "TS_02", "TS_03"]


def test_one_process_for_all_tomograms(tmp_path):
    engine = Engine(tmp_path)
    engine.run([PREDICT], IDS)
    assert engine.calls == [(PREDICT, IDS)]
    assert engine.done == [(ts_id, PREDICT, PREDICT) for ts_id in IDS]
    assert not engine.failed


def test_what_is_done_already_is_handed_on_without_a_process(tmp_path):
    engine = Engine(tmp_path)
    for ts_id in IDS:
        engine.write(PREDICT, ts_id, "done")
    engine.run([PREDICT], IDS)
    assert engine.calls == []
    assert [ts_id for ts_id, *_ in engine.done] == IDS


@pytest.mark.parametrize("state", ["running", "failed", "done"])
def test_old_statuses_without_results_are_not_believed(tmp_path, state):
    """Of a run that was killed, of a failure that may be mended, of a file that was removed."""
    engine = Engine(tmp_path)
    engine.write(PREDICT, "TS_02", state)
    (tmp_path / f"TS_02_{PREDICT}.mrc").unlink(missing_ok=True)
    engine.run([PREDICT], IDS)
    assert engine.calls == [(PREDICT, IDS)]
    assert len(engine.done) == 3
    assert not engine.failed


def test_a_failed_tomogram_keeps_the_engine_s_words(tmp_path):
    engine = Engine(tmp_path, {(PREDICT, "TS_02"): "failed"})
    engine.run([PREDICT], IDS)
    assert [ts_id for ts_id, *_ in engine.done] == ["TS_01", "TS_03"]
    assert engine.failed == {"TS_02": "TS_02 broke. Mend."}
    assert len(engine.calls) == 1


def test_after_a_death_the_others_get_a_new_process(tmp_path):
    engine = Engine(tmp_path, {(PREDICT, "TS_02"): "dies"})
    engine.run([PREDICT], IDS)
    assert engine.calls == [(PREDICT, IDS), (PREDICT, ["TS_03"])]
    assert [ts_id for ts_id, *_ in engine.done] == ["TS_01", "TS_03"]
    assert list(engine.failed) == ["TS_02"]
    assert KILLED.reason in engine.failed["TS_02"]


def test_an_engine_that_cannot_begin_is_not_tried_forever(tmp_path):
    engine = Engine(tmp_path, {(PREDICT, "TS_01"): "no start"})
    engine.run([PREDICT], IDS)
    assert len(engine.calls) == 1
    assert not engine.done
    assert sorted(engine.failed) == IDS
    assert all("no such model" in reason for reason in engine.failed.values())


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_stop_keeps_what_is_done_and_fails_nothing(tmp_path, side_by_side):
    engine = Engine(tmp_path, {(PREDICT, "TS_02"): "stopped"})
    with pytest.raises(EngineStopped, match="Continue"):
        engine.run([PREDICT], IDS, side_by_side=side_by_side)
    assert [ts_id for ts_id, *_ in engine.done] == ["TS_01"]
    assert not engine.failed
    assert len(engine.calls) == 1
    # Continue.
    engine.done.clear()
    engine.run([PREDICT], ["TS_02", "TS_03"])
    assert engine.calls[-1] == (PREDICT, ["TS_02", "TS_03"])
    assert [ts_id for ts_id, *_ in engine.done] == ["TS_02", "TS_03"]


def test_later_stages_run_on_what_passed_the_first(tmp_path):
    engine = Engine(tmp_path, {(PREDICT, "TS_02"): "failed"})
    engine.run([PREDICT, CENTERS], IDS)
    assert engine.calls == [(PREDICT, IDS), (CENTERS, ["TS_01", "TS_03"])]
    assert engine.done == [(ts_id, PREDICT, CENTERS) for ts_id in ("TS_01", "TS_03")]


@pytest.mark.parametrize(
    ("fate", "said"), [("failed", "TS_01 broke. Mend."), ("dies", KILLED.reason)]
)
def test_a_failure_of_a_later_stage(tmp_path, fate, said):
    engine = Engine(tmp_path, {(CENTERS, "TS_01"): fate})
    engine.run([PREDICT, CENTERS], ["TS_01"])
    assert not engine.done
    assert said in engine.failed["TS_01"]


def test_a_later_stage_that_was_stopped_loses_nothing(tmp_path):
    engine = Engine(tmp_path, {(CENTERS, "TS_01"): "stopped"})
    with pytest.raises(EngineStopped):
        engine.run([PREDICT, CENTERS], ["TS_01"])
    assert not engine.failed
    engine.run([PREDICT, CENTERS], ["TS_01"])
    assert engine.calls == [(PREDICT, ["TS_01"]), (CENTERS, ["TS_01"]), (CENTERS, ["TS_01"])]
    assert engine.done == [("TS_01", PREDICT, CENTERS)]


def test_a_later_stage_done_for_an_earlier_result_is_only_done_once(tmp_path):
    engine = Engine(tmp_path)
    engine.run([PREDICT, CENTERS], IDS)
    engine.calls.clear()
    engine.run([PREDICT, CENTERS], IDS)
    assert engine.calls == []


def test_results_are_handed_on_while_the_process_still_runs(tmp_path):
    """The process ends only once its first tomogram has been through the later stage."""
    engine = Engine(tmp_path)
    handed_on = threading.Event()
    launch = engine.launch

    def slow_launch(command, ts_ids):
        if command == CENTERS:
            return launch(command, ts_ids)
        launch(command, ts_ids[:1])
        assert handed_on.wait(10), "the first result was not handed on"
        launch(command, ts_ids[1:])
        return WELL

    def on_done(ts_id, first, last):
        engine.on_done(ts_id, first, last)
        handed_on.set()

    engine.launch = slow_launch
    engine.run([PREDICT, CENTERS], IDS, side_by_side=True, on_done=on_done)
    assert sorted(ts_id for ts_id, *_ in engine.done) == IDS
    assert not engine.failed


def test_a_result_that_cannot_be_registered_fails_alone(tmp_path, caplog):
    engine = Engine(tmp_path)

    def on_done(ts_id, first, last):
        if ts_id == "TS_02":
            raise OSError("disk full")
        engine.on_done(ts_id, first, last)

    with caplog.at_level(logging.ERROR):
        engine.run([PREDICT], IDS, on_done=on_done)
    assert [ts_id for ts_id, *_ in engine.done] == ["TS_01", "TS_03"]
    assert "disk full" in engine.failed["TS_02"]
    assert "TS_02" in caplog.text
