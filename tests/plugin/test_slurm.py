"""Tomograms through job arrays without a Slurm: the stages, and the arrays of one command."""

from __future__ import annotations

import pytest

from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols import array_batch, array_stage
from cryosiam_plugin.protocols.array_batch import ArrayBatch, Inbox
from cryosiam_plugin.protocols.array_stage import ArrayStage
from cryosiam_plugin.protocols.engine_batch import EngineStopped, Stage
from cryosiam_plugin.slurm_core import (
    Failure,
    JobSettings,
    Journal,
    Poll,
    Progress,
    SlurmError,
    SlurmPrograms,
    SlurmRun,
)

IDS = ["TS_01", "TS_02", "TS_03"]


class FakeStage:
    """Ends one tomogram at each look; `fates` says which of them how."""

    interval = 0.0
    is_cancelled = False

    def __init__(self, command, fates=()):
        self.command = command
        self.fates = dict(fates)
        self.adds: list[list[str]] = []
        self.running: list[str] = []
        self.results: set[str] = set()
        self.failed: dict[str, Failure] = {}

    def attach(self):
        pass

    def release(self):
        pass

    def done(self, ts_id):
        return EngineStatus(self.command, ts_id, "done") if ts_id in self.results else None

    def has(self, ts_id):
        return any(ts_id in added for added in self.adds)

    def log_of(self, ts_id):
        return None

    def has_lost(self, ts_id):
        return self.fates.get(ts_id) == "lost"

    @property
    def is_over(self):
        return not self.running

    def add(self, ts_ids):
        self.adds.append(ts_ids)
        self.running += ts_ids

    def poll(self):
        if not self.running:
            return Poll()
        ts_id = self.running.pop(0)
        fate = self.fates.get(ts_id, "done")
        self.is_cancelled = fate == "cancelled"
        if fate == "failed":
            self.failed[ts_id] = Failure(3, "out of memory", "Too large.", earlier=["killed"] * 2)
            return Poll(failed={ts_id: self.failed[ts_id]})
        if fate == "done":
            self.results.add(ts_id)
        return Poll(done=[ts_id], progress=Progress(n_tomograms=3, n_done=len(self.results)))


def run(*stages, inbox=None, prepare=list):
    if inbox is None:
        inbox = Inbox()
        inbox.put(IDS)
        inbox.close()
    done, failed = [], {}

    def on_done(ts_id, first, last):
        done.append((ts_id, first.command, last.command))

    ArrayBatch(stages, inbox, prepare, on_done, failed.__setitem__).run()
    return done, failed


def test_stages_follow_each_other_and_results_gather():
    predict, centers = FakeStage("predict"), FakeStage("centers")
    done, failed = run(predict, centers)
    assert sorted(done) == [(ts_id, "predict", "centers") for ts_id in IDS]
    assert failed == {}
    assert predict.adds == [IDS]
    assert sorted(ts_id for added in centers.adds for ts_id in added) == IDS


def test_failures_carry_their_reasons():
    done, failed = run(FakeStage("predict", {"TS_01": "failed", "TS_03": "lost"}))
    assert [ts_id for ts_id, *_ in done] == ["TS_02"]
    assert failed["TS_01"] == (
        "out of memory. Too large. Give the tasks more memory ('Memory of each task'). "
        "Tried 3 times; before: killed, killed."
    )
    assert "not there any more" in failed["TS_03"]


def test_what_is_done_already_is_not_submitted():
    predict, centers = FakeStage("predict"), FakeStage("centers")
    predict.results, centers.results = {"TS_01", "TS_02"}, {"TS_01"}
    done, _ = run(predict, centers)
    assert len(done) == 3
    assert predict.adds == [["TS_03"]]
    assert [ts_id for added in centers.adds for ts_id in added] == ["TS_02", "TS_03"]


def test_further_tomograms_make_further_arrays(monkeypatch):
    monkeypatch.setattr(array_batch, "IDLE_SECONDS", 0.01)
    inbox = Inbox()
    inbox.put(["TS_01"])
    stage = FakeStage("predict")
    poll = stage.poll

    def arrives():
        answer = poll()
        if answer.done == ["TS_01"]:
            inbox.put(["TS_02"])
            inbox.close()
        return answer

    stage.poll = arrives
    done, _ = run(stage, inbox=inbox)
    assert [ts_id for ts_id, *_ in done] == ["TS_01", "TS_02"]
    assert stage.adds == [["TS_01"], ["TS_02"]]


def test_a_cancelled_run_is_for_continue():
    with pytest.raises(EngineStopped, match="Continue"):
        run(FakeStage("predict", {"TS_02": "cancelled"}))


def test_a_result_that_cannot_be_registered_is_a_failure():
    inbox, failed = Inbox(), {}
    inbox.put(IDS)
    inbox.close()

    def on_done(ts_id, first, last):
        if ts_id == "TS_02":
            raise ValueError("no such file")

    ArrayBatch([FakeStage("predict")], inbox, list, on_done, failed.__setitem__).run()
    assert list(failed) == ["TS_02"]
    assert "no such file" in failed["TS_02"]


# ------------------------------- one command's arrays -----------------------------------------


class Cluster(SlurmPrograms):
    """Takes everything and runs nothing."""

    def submit(self, script, options=()):
        return "7"

    def look(self, names):
        return {}

    def largest_array(self):
        return 1000

    def still_there(self, job_id):
        return set()

    def ended_as(self, job_id):
        return {}

    def cancel(self, job_ids=(), name=""):
        self.cancelled = list(job_ids)


def stage_in(folder, programs, **form):
    def journal(command, ts_ids):
        name = f"j{len(list(folder.glob('slurm/run_*')))}"
        engine = f"engine {len(ts_ids)}"
        return Journal(name, command, [], engine, str(folder), str(folder), **form)

    return ArrayStage(Stage("predict", folder), folder / "slurm", journal, programs)


def test_continue_finds_the_run_and_nobody_else_may_follow_it(tmp_path):
    programs = Cluster()
    first = stage_in(tmp_path, programs)
    first.attach()
    first.add(IDS[:2])
    first.poll()
    with pytest.raises(SlurmError, match="followed by another"):
        stage_in(tmp_path, programs).attach()
    first.release()
    again = stage_in(tmp_path, programs)
    again.attach()
    assert again.has("TS_01")
    assert not again.has("TS_03")
    again.add(["TS_03"])
    again.release()
    (found,) = array_stage.runs_in(tmp_path / "slurm", programs)
    assert [one.n_tomograms for one in found.journal.submissions] == [2, 1]
    # The container must see what came later, too.
    assert found.journal.engine == "engine 3"


def test_continue_submits_what_the_form_says_by_then(tmp_path):
    """More memory for what failed, though the rest of its array still runs."""
    programs = Cluster()
    first = stage_in(tmp_path, programs, settings=JobSettings(memory="4G"), retries=0)
    first.add(IDS)
    first.poll()
    first.release()
    (found,) = array_stage.active_runs(tmp_path / "slurm", programs)
    found.journal.failures["TS_02"] = Failure(1, "time limit", "", "TS_02.mrc", array=1)
    found.save()
    now = JobSettings(memory="64G", partition="big")
    again = stage_in(tmp_path, programs, settings=now, retries=5)
    again.attach()
    again.poll()
    again.release()
    (found,) = array_stage.runs_in(tmp_path / "slurm", programs)
    one, other = (
        (found.array_folder(submission) / "job.sh").read_text()
        for submission in found.journal.submissions
    )
    assert "--mem=4G" in one
    assert {"#SBATCH --mem=64G", "#SBATCH --partition=big"} < set(other.splitlines())
    assert found.journal.retries == 5
    # The container must see all tomograms of the run.
    assert "engine 3 " in other


def test_other_parameters_end_the_array_before_they_are_refused(domain):
    """However many results there are already."""
    from cryosiam_plugin.protocols import ProtCryosiamDenoise

    protocol, ended = ProtCryosiamDenoise(workingDir="Runs/7"), []
    protocol.whereToRun.set(1)
    protocol._configuration = lambda: {"threshold": 2}
    protocol._earlierConfiguration = lambda: {"threshold": 1}
    protocol._tsIdsOf = lambda name: {"TS_01"}
    protocol._forgetFailures = lambda: None
    protocol._endArrays = lambda seconds: ended.append("arrays")
    protocol._endStepJobs = lambda seconds: ended.append("steps")
    with pytest.raises(ValueError, match="threshold"):
        protocol._beginAgain()
    assert ended == ["arrays", "steps"]


def test_a_cancelled_run_is_not_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(array_stage.time, "sleep", lambda seconds: None)
    programs = Cluster()
    first = stage_in(tmp_path, programs)
    first.add(IDS)
    first.poll()
    first.release()
    (active,) = array_stage.active_runs(tmp_path / "slurm", programs)
    active.cancel()
    assert programs.cancelled == ["7"]
    again = stage_in(tmp_path, programs)
    again.attach()
    assert not again.has("TS_01")
    again.add(IDS)
    again.release()
    assert len(array_stage.runs_in(tmp_path / "slurm", programs)) == 2


def test_what_is_not_wanted_any_more_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(array_stage.time, "sleep", lambda seconds: None)
    programs = Cluster()
    first = stage_in(tmp_path, programs)
    first.add(IDS)
    first.poll()
    first.release()
    array_stage.end_runs([SlurmRun.open(tmp_path / "slurm" / "run_001", programs)])
    assert not SlurmRun.open(tmp_path / "slurm" / "run_001", programs).journal.active
