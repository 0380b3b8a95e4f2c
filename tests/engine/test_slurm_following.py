"""A run on Slurm from its first submission to its end, with a queue that obeys the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.follower import Follower
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.slurm.plan import Item
from cryosiam_engine.slurm.retries import retry_failed
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.settings import JobSettings
from cryosiam_engine.slurm.squeue import TaskState
from slurm_scene import Queue, Scene


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_results_are_told_as_they_come_and_once(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 3, queue)
    assert not scene.poll().done
    scene.task(0, "RUNNING")
    scene.task(1, "RUNNING")
    scene.says(0, "running")
    poll = scene.poll()
    assert (poll.done, poll.progress.n_running, poll.progress.n_waiting) == ([], 2, 1)
    scene.says(0, "done")
    assert scene.poll().done == ["TS_0"]
    for number in range(3):
        scene.task(number, "COMPLETED")
        scene.says(number, "done")
    poll = scene.poll()
    assert sorted(poll.done) == ["TS_1", "TS_2"]
    assert poll.is_over
    assert poll.progress.seconds_each == 4
    assert list(queue.jobs) == ["run-1"]
    assert queue.n_looks == 3  # there was nothing to see before the first submission


def test_a_result_of_an_earlier_run_counts_when_the_engine_has_agreed(
    tmp_path: Path, queue: Queue
) -> None:
    scene = Scene(tmp_path, 1, queue)
    scene.says(0, "done")
    os.utime(scene.status / "TS_0.json", (1, 1))
    scene.poll()
    scene.task(0, "RUNNING")
    assert not scene.poll().done
    scene.task(0, "COMPLETED")
    assert scene.poll().done == ["TS_0"]


def test_an_old_failure_is_forgotten_before_a_new_attempt(tmp_path: Path, queue: Queue) -> None:
    (tmp_path / "status").mkdir()
    (tmp_path / "status" / "TS_0.json").write_text('{"state": "failed"}')
    (tmp_path / "status").rename(tmp_path / "before")
    scene = Scene(tmp_path, 0, queue)
    for path in (tmp_path / "before").iterdir():
        path.rename(scene.status / path.name)
    scene.run.add([Item("TS_0", "TS_0.mrc")])
    assert not list(scene.status.iterdir())


def test_what_the_engine_refuses_is_not_tried_again(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 2, queue)
    scene.poll()
    error = {"type": "TomogramError", "message": "TS_0 is not an MRC file.", "remedy": "Copy it."}
    scene.task(0, "RUNNING")
    scene.says(0, "failed", error=error)
    poll = scene.poll()
    assert poll.failed["TS_0"].text == "TS_0 is not an MRC file. Copy it."
    assert not poll.is_over
    for number in (0, 1):
        scene.task(number, "COMPLETED" if number else "FAILED")
    scene.says(1, "done")
    assert scene.poll().is_over
    assert len(queue.jobs) == 1


def test_memory_is_short_smaller_tiles_and_more_memory(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 2, queue, settings=JobSettings(memory="1000"), retries=2)
    scene.poll()
    for attempt in (1, 2, 3):
        scene.task(0, "OUT_OF_MEMORY", array=attempt)
        scene.says(0, "running")
        if attempt == 1:
            scene.task(1, "COMPLETED")
            scene.says(1, "done")
        for _ in range(4):
            poll = scene.poll()
    assert poll.is_over
    failure = scene.run.journal.failures["TS_0"]
    assert (failure.attempt, failure.reason, failure.is_final) == (3, "out of memory", True)
    assert failure.earlier == ["out of memory"] * 2
    memory = [queue.scripts[f"run-{n}"].split("--mem=")[1].split()[0] for n in (1, 2, 3)]
    assert memory == ["1000", "1500M", "2250M"]
    assert [scene.plan(n).memory_share for n in (1, 2, 3)] == [1, 0.5, 0.25]


def test_no_node_has_so_much_memory(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue, settings=JobSettings(memory="1000"))
    scene.poll()
    scene.task(0, "OUT_OF_MEMORY")
    queue.refuses = [SlurmError("sbatch refused: Requested node configuration is not available")]
    for _ in range(3):
        scene.poll()
    assert "--mem=1000\n" in queue.scripts["run-2"]


def test_a_node_with_a_full_disk_is_avoided(tmp_path: Path, queue: Queue) -> None:
    """Its jobs fail at once, so that it is free at once for the next attempt."""
    scene = Scene(tmp_path, 2, queue)
    error = {"type": "OutputError", "message": "No space left on the device."}
    refusal = SlurmError("sbatch refused: Requested node configuration is not available")
    for array, node in ((1, "n2"), (2, "n1")):
        scene.poll()
        queue.refuses = [refusal] if array == 2 else []
        scene.says(0, "failed", error=error)
        for number in range(1 if array > 1 else 2):
            queue.states[queue.jobs[f"run-{array}"], number] = TaskState("FAILED", "", node)
        scene.says(1, "done")
        scene.poll()
    assert "--exclude=" not in queue.scripts["run-1"]
    assert "--exclude=n2\n" in queue.scripts["run-2"]
    assert "--exclude=" not in queue.scripts["run-3"]  # no node would be left
    assert scene.run.journal.failures["TS_0"].avoid == ["n1", "n2"]
    queue.states[queue.jobs["run-3"], 0] = TaskState("FAILED", "", "n2")
    scene.says(0, "failed", error=error)
    scene.poll()
    retry_failed(scene.run)
    scene.poll()
    assert "--exclude=" not in queue.scripts["run-4"]  # whoever asks has made room


def test_what_slurm_holds_after_its_node_could_not_start_it(tmp_path: Path, queue: Queue) -> None:
    """Else it would wait for somebody who releases it."""
    scene = Scene(tmp_path, 2, queue)
    scene.poll()
    scene.says(1, "done")  # it did run, but the node could not tell
    for number in (0, 1):
        scene.task(number, "PENDING", "launch failed requeued held")
    assert scene.poll().done == ["TS_1"]
    assert queue.cancelled == ["100_1"]
    scene.poll()
    assert queue.cancelled == ["100_1", "100_0"]
    assert [item.stem for item in scene.plan(2).items] == ["TS_0"]
    assert scene.run.journal.failures["TS_0"].reason == "node failure"
    scene.task(0, "COMPLETED", array=2)
    scene.says(0, "done")
    assert scene.poll().is_over


def test_of_a_dead_task_only_the_tomogram_it_died_of_is_charged(
    tmp_path: Path, queue: Queue
) -> None:
    """Else three bad ones would use up the attempts of all good ones behind them."""
    scene = Scene(tmp_path, 5, queue, per_task=5, retries=0)
    scene.poll()
    scene.says(0, "done")
    scene.says(1, "running")
    scene.task(0, "FAILED", "NonZeroExitCode")
    scene.poll()
    for _ in range(2):
        poll = scene.poll(31)
    assert scene.run.journal.failures["TS_1"].is_final
    assert [item.stem for item in scene.plan(2).items] == ["TS_2", "TS_3", "TS_4"]
    assert {item.attempt for item in scene.plan(2).items} == {1}
    assert poll.progress.n_tomograms == 5


def test_a_task_that_begins_nothing_is_not_tried_for_ever(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 4, queue, per_task=2, retries=1)
    for _ in range(20):
        poll = scene.poll(31)
        for key in queue.states:
            queue.states[key] = TaskState("NODE_FAIL", "NodeDown")
    assert poll.is_over
    assert poll.progress.n_failed == 4
    assert len(queue.jobs) == 2


def test_a_queue_without_an_answer_proves_nothing(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    scene.task(0, "RUNNING")
    scene.poll()
    queue.broken = SlurmError("squeue refused: Unable to contact slurm controller", passing=True)
    for _ in range(10):
        poll = scene.poll(60)
    assert poll.progress.problem
    assert not poll.is_over
    queue.broken = None
    scene.says(0, "done")
    scene.task(0, "COMPLETED")
    poll = scene.poll()
    assert poll.is_over
    assert poll.done == ["TS_0"]


def test_a_task_that_slurm_has_forgotten_is_judged_by_its_status(
    tmp_path: Path, queue: Queue
) -> None:
    scene = Scene(tmp_path, 2, queue, retries=0)
    scene.poll()
    queue.states.clear()
    scene.says(0, "done")
    poll = scene.poll()
    assert poll.done == ["TS_0"]
    assert not poll.is_over
    log = tmp_path / "run" / "array_001" / "logs" / "1.log"
    log.write_text("Bus error")
    assert "Bus error" in scene.poll(31).failed["TS_1"].text


def test_a_status_that_comes_late_is_waited_for(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    scene.task(0, "COMPLETED")
    assert not scene.poll().is_over
    assert not scene.poll(20).is_over
    scene.says(0, "done")
    assert scene.poll(5).done == ["TS_0"]


def test_a_cap_holds_for_all_arrays_together(tmp_path: Path) -> None:
    queue = Queue(largest=4)
    scene = Scene(tmp_path, 10, queue, settings=JobSettings(cap=2))
    scene.poll()
    scripts = [queue.scripts[f"run-{number}"] for number in (1, 2, 3)]
    assert ["--dependency=" in script for script in scripts] == [False, True, True]
    assert "--dependency=afterany:101\n" in scripts[2]
    assert all("%2\n" in script for script in scripts)


@pytest.mark.parametrize("arrived", [True, False])
def test_a_submission_without_an_answer_is_neither_lost_nor_doubled(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    scene = Scene(tmp_path, 2, queue)
    queue.forgets_answer = arrived
    if not arrived:
        queue.refuses = [SlurmError("sbatch: Connection refused", passing=True)]
    scene.poll()
    scene.again()  # and the follower was killed
    queue.forgets_answer = False
    monkeypatch.setattr("cryosiam_engine.slurm.submitting.ORPHANED", -1.0)
    scene.poll(40)
    scene.poll(40)
    assert list(queue.jobs.values()) == ["100"]
    assert scene.run.journal.submissions[0].job_id == "100"


def test_a_limit_on_jobs_is_waited_for_and_a_wrong_partition_is_not(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryosiam_engine.slurm.submitting.LATE_ANSWER", -1.0)
    queue.refuses = [SlurmError("sbatch refused: Invalid partition")]
    scene = Scene(tmp_path, 2, queue)
    with pytest.raises(SlurmError, match="Invalid partition"):
        scene.poll()
    assert all(failure.is_final for failure in scene.run.journal.failures.values())
    assert retry_failed(scene.run) == 2
    queue.refuses = [SlurmError("QOSMaxSubmitJobPerUserLimit", passing=True)]
    for _ in range(4):
        scene.poll(31)
    assert list(queue.jobs) == ["run-2"]


def test_a_new_follower_goes_on_where_the_old_one_was(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 3, queue, retries=1)
    scene.poll()
    scene.says(0, "done")
    scene.task(0, "COMPLETED")
    scene.task(1, "NODE_FAIL")
    scene.poll()
    scene.poll()
    scene.again()
    assert scene.poll().done == ["TS_0"]
    scene.task(2, "COMPLETED")
    scene.says(2, "done")
    scene.poll()
    scene.again()
    poll = scene.poll()
    assert sorted(poll.done) == ["TS_0", "TS_2"]
    assert list(queue.jobs) == ["run-1", "run-2"]
    scene.task(0, "COMPLETED", array=2)
    scene.says(1, "done")
    assert scene.poll().is_over


def test_cancelled_from_elsewhere(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 2, queue)
    scene.poll()
    SlurmRun.open(tmp_path / "run", queue).cancel()
    assert queue.cancelled == ["100"]
    for number in (0, 1):
        scene.task(number, "CANCELLED")
    scene.poll()
    poll = scene.poll()
    assert poll.is_over
    assert {f.reason for f in scene.run.journal.failures.values()} == {"cancelled"}
    assert retry_failed(scene.run) == 2
    scene.poll()
    assert len(queue.jobs) == 2


def test_who_only_looks_changes_nothing(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    scene.task(0, "NODE_FAIL")
    before = (tmp_path / "run" / "journal.json").read_text()
    looker = Follower(
        SlurmRun.open(tmp_path / "run", queue, is_read_only=True), clock=lambda: scene.now
    )
    for _ in range(3):
        scene.now += 5
        looker.poll()
    assert (tmp_path / "run" / "journal.json").read_text() == before
    assert len(queue.jobs) == 1


def test_tomograms_may_be_added(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    scene.run.add([Item("TS_9", "TS_9.mrc")])
    poll = scene.poll()
    assert list(queue.jobs) == ["run-1", "run-2"]
    assert poll.progress.n_tomograms == 2


def test_a_paused_training_is_not_done(tmp_path: Path, queue: Queue) -> None:
    scene = Scene(tmp_path, 1, queue)
    scene.poll()
    scene.task(0, "RUNNING")
    scene.says(0, "done", summary={"stopped_by": "SIGTERM"})
    assert not scene.poll().done
    scene.task(0, "PENDING", "BeginTime")
    assert scene.poll().progress.n_waiting == 1
    scene.task(0, "RUNNING")
    scene.says(0, "done", summary={"stopped_by": ""})
    assert scene.poll().done == ["TS_0"]


# ---- the command line ----------------------------------------------------------------------------

BLOCK = """\
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "numpy", "monai", "scipy", "pandas", "lightning"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Block())
from cryosiam_engine.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_login_node_needs_neither_torch_nor_a_gpu(
    tmp_path: Path, write_config: object, simulated: Path
) -> None:
    """Submitted to a stand-in for sbatch, with nothing but YAML and pydantic to be had."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\necho 4242\n")
    (programs / "scontrol").write_text("#!/bin/sh\necho 'MaxArraySize            = 3'\n")
    for path in programs.iterdir():
        path.chmod(0o755)
    config = write_config("denoising")  # type: ignore[operator]
    words = ["slurm", "denoise_predict", "--config_file", config, "--time", "10", "--detach"]
    environment = {**os.environ, "PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCK, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    run = next((tmp_path / "out" / "slurm").iterdir())
    journal = Journal.read(run)
    assert [one.job_id for one in journal.submissions] == ["4242", "4242"]
    plan = SlurmRun.open(run).plan_of(journal.submissions[0])
    assert plan.command == "denoise_predict"
    assert plan.items[0].filename == str(simulated / "TS_01.mrc")
    assert (run / "config.yaml").read_text() == Path(config).read_text()
