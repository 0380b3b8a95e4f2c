"""Protocols on Slurm without a Slurm: stages, the form, the queue's configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyworkflow.protocol import HostConfig

import cryosiam_plugin
from cryosiam_plugin.engine_status import EngineStatus
from cryosiam_plugin.protocols import array_batch, array_stage, queue_jobs
from cryosiam_plugin.protocols.array_batch import ArrayBatch, Inbox, explained
from cryosiam_plugin.protocols.array_stage import ArrayStage
from cryosiam_plugin.protocols.engine_batch import EngineStopped, Stage
from cryosiam_plugin.protocols.slurm_form import job_settings
from cryosiam_plugin.slurm_core import (
    Failure,
    Journal,
    Poll,
    Progress,
    SlurmError,
    SlurmPrograms,
    SlurmRun,
)

HOSTS = Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf"
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
    assert failed["TS_01"] == ("out of memory. Too large. Tried 3 times; before: killed, killed.")
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


def test_an_engine_error_needs_no_words_of_slurm():
    assert explained(Failure(1, "engine error", "TS_01.mrc is damaged.")) == "TS_01.mrc is damaged."
    text = "Slurm says TIMEOUT. Give the jobs more time (--time), or fewer tomograms per task."
    assert "--time" not in explained(Failure(1, "time limit", text))


# ------------------------------- one command's arrays -----------------------------------------


class Cluster(SlurmPrograms):
    """Takes everything and runs nothing."""

    def submit(self, script, options=()):
        return "7"

    def look(self, names):
        return {}

    def largest_array(self):
        return 1000

    def cancel(self, job_ids=(), name=""):
        self.cancelled = list(job_ids)


def stage_in(folder, programs):
    def journal(command, ts_ids):
        name = f"j{len(list(folder.glob('slurm/run_*')))}"
        return Journal(name, command, [], f"engine {len(ts_ids)}", str(folder), str(folder))

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
    array_stage.end_run(SlurmRun.open(tmp_path / "slurm" / "run_001", programs))
    assert not SlurmRun.open(tmp_path / "slurm" / "run_001", programs).journal.active


# ------------------------------- the form -----------------------------------------------------


def form(**values):
    names = ["Partition", "Gpus", "Memory", "Time", "Account", "Qos", "Extra"]
    given = {f"slurm{name}": "" for name in names}
    given.update(slurmCpus=0, slurmCap=0, **values)
    return SimpleNamespace(
        **{name: SimpleNamespace(get=lambda v=value: v) for name, value in given.items()}
    )


@pytest.mark.parametrize(
    ("gpus", "use_gpu", "gres"),
    [
        ("1", True, "gpu:1"),
        ("a100:2", True, "gpu:a100:2"),
        (" gpu:a100:1 ", True, "gpu:a100:1"),
        ("1", False, ""),
        ("0", True, ""),
        ("", True, ""),
        (None, True, ""),
    ],
)
def test_gpus_are_asked_for_where_they_are_used(gpus, use_gpu, gres):
    assert job_settings(form(slurmGpus=gpus), use_gpu=use_gpu).gres == gres


def test_other_options_are_read_like_a_shell_s():
    settings = job_settings(form(slurmExtra="--constraint='a b' --exclude=n7"), use_gpu=True)
    assert settings.extra == ("--constraint=a b", "--exclude=n7")


@pytest.mark.parametrize(
    "wrong",
    [
        {"slurmMemory": "much"},
        {"slurmTime": "soon"},
        {"slurmPartition": "a b"},
        {"slurmExtra": "it's"},
        {"slurmExtra": "a100"},
    ],
)
def test_what_cannot_be_right_is_refused(wrong):
    with pytest.raises((SlurmError, ValueError)):
        job_settings(form(**wrong), use_gpu=True)


def test_every_prediction_protocol_can_run_on_slurm(domain):
    from cryosiam_plugin.protocols import ProtCryosiamBase

    predictions = [
        protocol
        for protocol in domain.getProtocols().values()
        if issubclass(protocol, ProtCryosiamBase) and protocol is not ProtCryosiamBase
    ]
    assert len(predictions) >= 7
    for protocol in predictions:
        assert protocol().getParam("whereToRun") is not None, protocol


# ------------------------------- Scipion's queue ----------------------------------------------


def submitted(tmp_path, **values):
    """What sbatch is given by the shipped configuration, for some values of a protocol's."""
    queue = HostConfig.load(str(HOSTS))["localhost"].queueSystem
    script = tmp_path / "it's a job.job"
    job = {"JOB_NAME": "7", "JOB_LOGS": "Runs/7", "JOB_SCRIPT": str(script), "JOB_COMMAND": "true"}
    every = {**queue.queuesDefault, "GPU_COUNT": 0, **job, **values}
    script.write_text(queue.getSubmitTemplate() % every)
    sbatch = tmp_path / "sbatch"
    sbatch.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    sbatch.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", queue.getSubmitCommand() % every],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_shipped_queue_asks_for_what_is_filled_in(tmp_path):
    plain = submitted(tmp_path)
    assert plain[0] == "--parsable"
    assert set(plain[1:-1]) == {"--cpus-per-task=4", "--mem=32G", "--time=24:00:00"}
    assert plain[-1].endswith("it's a job.job")
    words = submitted(
        tmp_path,
        JOB_QUEUE="gpu",
        GPU_COUNT=2,
        JOB_GPU_TYPE="a100",
        JOB_ACCOUNT="lab",
        JOB_QOS="long",
        JOB_MEMORY="",
        JOB_OPTIONS="--exclude=n7 --constraint=ssd",
    )
    assert {"--partition=gpu", "--gres=gpu:a100:2", "--account=lab", "--qos=long"} < set(words)
    assert {"--exclude=n7", "--constraint=ssd"} < set(words)
    assert not any(word.startswith("--mem") for word in words)


@pytest.mark.parametrize(
    ("answer", "is_running"),
    [
        ("echo RUNNING", True),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("exit 0", False),
    ],
)
def test_a_silent_controller_ends_no_job(tmp_path, monkeypatch, answer, is_running):
    from pyworkflow.protocol.launch import _checkJobStatus

    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n{answer}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    status = _checkJobStatus(HostConfig.load(str(HOSTS))["localhost"], 7)
    assert status == ("running" if is_running else "finished")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***",
            "time limit",
        ),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026 ***", "cancelled"),
        ("slurmstepd: error: Exceeded job memory limit", "out of memory"),
        ("Job 7 ended with exit code 1", ""),
    ],
)
def test_why_a_job_ended(tmp_path, said, reason):
    (tmp_path / "7.err").write_text(f"Job 7 on n1\n{said}\n")
    why = queue_jobs.why_ended(tmp_path / "7")
    assert reason in why
    assert (said in why) == bool(reason)
    assert queue_jobs.exit_code_of(tmp_path / "7") == (None if reason else 1)


def test_a_job_s_gpus_are_its_own(tmp_path):
    """The executor asks for the same number for all; a job without a network needs none."""
    import threading

    seen = []

    class Executor:
        submitDict = {"JOB_NAME": "7", "JOB_SCRIPT": str(tmp_path / "7.job"), "GPU_COUNT": 1}  # noqa: RUF012
        threadCommands = {5: 2}  # noqa: RUF012

        def runJob(self, log, program, arguments, **how):
            seen.append(self.submitDict["GPU_COUNT"])

    executor, answers = Executor(), []
    thread = threading.Thread(
        target=lambda: answers.append(queue_jobs.run_as_job(executor, None, ("true", ""), n_gpus=0))
    )
    thread.thId = 5
    thread.start()
    thread.join()
    assert seen == [0]
    assert executor.submitDict["GPU_COUNT"] == 1
    assert answers == [tmp_path / "7-5-2"]
