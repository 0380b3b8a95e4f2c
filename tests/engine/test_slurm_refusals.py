"""What Slurm refuses: for now, for ever, or because an array is too large."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from cryosiam_engine.slurm.errors import FULL, TOO_LARGE, TOO_MANY, SlurmError
from cryosiam_engine.slurm.plan import Item
from cryosiam_engine.slurm.programs import SlurmPrograms
from cryosiam_engine.slurm.progress import in_words
from cryosiam_engine.slurm.refusals import refusal
from cryosiam_engine.slurm.run import SlurmRun
from slurm_scene import Queue, Scene

#: Slurm 22.05's own words, as sbatch prints them.
FAILED = "sbatch: error: Batch job submission failed: "
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.mark.parametrize(
    ("said", "limit", "is_passing"),
    [
        (f"{FAILED}{POLICY}", "", False),
        (f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{FAILED}{POLICY}", "", False),
        (f"sbatch: error: QOSMaxCpuPerJobLimit\n{FAILED}{POLICY}", "", False),
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{FAILED}{POLICY}", TOO_MANY, True),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED}{POLICY}", TOO_MANY, True),
        (f"sbatch: error: QOSMaxSubmitJobPerAccount\n{FAILED}{POLICY}", FULL, True),
        (f"sbatch: error: AssocGrpSubmitJobsLimit\n{FAILED}{POLICY}", FULL, True),
        ("sbatch: error: Slurm job queue full, sleeping and retrying", FULL, True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
         f"{FAILED}Resource temporarily unavailable", FULL, True),
        (f"{FAILED}Invalid job array specification", TOO_LARGE, False),
        (f"{FAILED}Unable to contact slurm controller (connect failure)", "", True),
        (f"{FAILED}Socket timed out on send/recv operation", "", True),
        (f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)", "", False),
        (f"{FAILED}Requested node configuration is not available", "", False),
    ],
)  # fmt: skip
def test_how_long_a_refusal_lasts(said: str, limit: str, is_passing: bool) -> None:
    error = refusal("sbatch", said)
    assert (error.limit, error.passing) == (limit, is_passing)
    assert "sbatch: error" not in error.message
    assert bool(error.remedy) == (not is_passing)


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ("Invalid partition name specified", "partition"),
        ("User's group not permitted to use this partition", "partition"),
        ("Invalid account or account/partition combination specified", "account"),
        ("Invalid qos specification", "qos"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "time"),
        ("Memory specification can not be satisfied", "memory"),
        ("Requested node configuration is not available", "gpus"),
        ("Invalid generic resource (gres) specification", "gpus"),
        ("CPU count per node can not be satisfied", "cpus"),
        ("Invalid job array specification", "per_task"),
        ("Invalid feature specification", "options"),
        ("Invalid node name specified", "options"),
        (POLICY, "qos"),
    ],
)
def test_a_refusal_says_what_to_change(said: str, about: str) -> None:
    error = refusal("sbatch", f"{FAILED}{said}")
    assert about in error.about
    assert error.remedy


def test_sbatch_may_wait_longer_than_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps for two minutes where the table of jobs is full; here both are shorter."""
    monkeypatch.setattr("cryosiam_engine.slurm.programs.PATIENCE", 0.2)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "sbatch").write_text("#!/bin/sh\nsleep 1\necho 4242\n")
    (tmp_path / "sbatch").chmod(0o755)
    (tmp_path / "job.sh").write_text("#!/bin/bash\n")
    assert SlurmPrograms().submit(tmp_path / "job.sh") == "4242"


def test_a_policy_that_forbids_the_job_is_told_at_once(tmp_path: Path, queue: Queue) -> None:
    queue.refuses = [refusal("sbatch", f"{FAILED}{POLICY}")]
    scene = Scene(tmp_path, 2, queue)
    with pytest.raises(SlurmError, match="account or QOS"):
        scene.poll()
    assert all(failure.is_final for failure in scene.run.journal.failures.values())


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_refusal_for_now_is_seen_by_whoever_looks(
    tmp_path: Path, queue: Queue, caplog: pytest.LogCaptureFixture, is_cancelled: bool
) -> None:
    said = f"sbatch: error: AssocGrpSubmitJobsLimit\n{FAILED}{POLICY}"
    queue.refuses = [refusal("sbatch", said) for _ in range(2)]
    scene = Scene(tmp_path, 2, queue)
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            poll = scene.poll(31)
        assert "takes no further jobs now: sbatch refused: AssocGrp" in in_words(poll.progress)
        assert "AssocGrp" in SlurmRun.open(tmp_path / "run", queue).journal.refusal
    assert caplog.text.count("AssocGrp") == 1
    assert scene.run.journal.submissions[0].state == "planned"  # Slurm said no: it has no such job
    if is_cancelled:
        scene.run.cancel()
        assert scene.poll().progress.refusal == ""
        return
    assert scene.poll(31).progress.refusal == ""
    assert list(queue.jobs) == ["run-1"]


class Limited(Queue):
    """Takes so many tasks of one user at a time, as MaxSubmitJobs does."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.offered: list[int] = []

    def submit(self, script: Path, options: object = ()) -> str:
        n_tasks = int(script.read_text().split("--array=0-")[1].split()[0]) + 1
        self.offered.append(n_tasks)
        present = sum(not state.is_ended for state in self.states.values())
        if present + n_tasks > self.limit:
            raise refusal("sbatch", f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED}{POLICY}")
        return super().submit(script, options)


def finish(scene: Scene, queue: Queue, looks: int) -> None:
    """Have all that is in the queue done at every look."""
    for _ in range(looks):
        scene.poll(31)
        for submission in scene.run.journal.submissions:
            for number, task in enumerate(scene.run.plan_of(submission).tasks):
                if submission.job_id and (submission.job_id, number) in queue.states:
                    scene.task(number, "COMPLETED", array=submission.number)
                    for item in task:
                        scene.says(int(item.stem.split("_")[1]), "done")


def test_an_array_that_never_fits_is_divided(tmp_path: Path) -> None:
    queue = Limited(7)
    scene = Scene(tmp_path, 30, queue)
    finish(scene, queue, 16)
    poll = scene.poll()
    assert poll.is_over
    assert poll.progress.n_done == poll.progress.n_tomograms == 30
    assert queue.offered[:4] == [30, 30, 15, 8]  # once may be chance
    assert max(len(scene.plan(n + 1).tasks) for n in range(len(queue.jobs))) <= 7
    stems = [item.stem for n in range(len(queue.jobs)) for item in scene.plan(n + 1).items]
    assert sorted(stems) == sorted(f"TS_{number}" for number in range(30))
    scene.run.add([Item(f"TS_{number}") for number in range(30, 40)])
    assert all(one.n_tasks <= 7 for one in scene.run.journal.active)


def test_other_jobs_of_the_user_are_waited_for(tmp_path: Path) -> None:
    queue = Limited(7)
    queue.submit_other(6)
    scene = Scene(tmp_path, 4, queue)
    for _ in range(5):
        poll = scene.poll(31)
    assert queue.offered == [4] * 5
    assert "QOSMaxSubmitJobPerUserLimit" in poll.progress.refusal


def test_not_a_single_task_is_allowed(tmp_path: Path) -> None:
    queue = Limited(0)
    scene = Scene(tmp_path, 3, queue)
    with pytest.raises(SlurmError, match="MaxSubmitJobs") as raised:
        for _ in range(9):
            scene.poll(31)
    assert raised.value.about == ("account", "qos")
    assert queue.offered == [3, 3, 2, 1]


def test_the_cluster_takes_smaller_arrays_than_it_said(tmp_path: Path, queue: Queue) -> None:
    said = f"{FAILED}Invalid job array specification"
    queue.refuses = [refusal("sbatch", said) for _ in range(2)]
    scene = Scene(tmp_path, 9, queue)
    for _ in range(4):
        scene.poll(31)
    assert [len(scene.plan(n).tasks) for n in range(1, len(queue.jobs) + 1)] == [3, 2, 2, 2]


def test_no_array_at_all_is_allowed(tmp_path: Path, queue: Queue) -> None:
    queue.refuses = [refusal("sbatch", f"{FAILED}Invalid job array specification")]
    with pytest.raises(SlurmError, match="MaxArraySize"):
        Scene(tmp_path, 1, queue).poll()


def test_a_crash_while_an_array_is_divided_loses_nothing(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither with the old journal, nor with the new one."""
    for saves in (0, 1):
        place = tmp_path / str(saves)
        place.mkdir()
        queue = Queue()
        queue.refuses = [refusal("sbatch", f"{FAILED}Invalid job array specification")]
        scene = Scene(place, 6, queue)
        with monkeypatch.context() as patched:
            if not saves:
                patched.setattr("cryosiam_engine.slurm.journal.Journal.write", lambda *_: None)
            scene.poll()
        scene.again()
        for _ in range(3):
            scene.poll(31)
        stems = [item.stem for n in range(len(queue.jobs)) for item in scene.plan(n + 1).items]
        assert sorted(stems) == [f"TS_{number}" for number in range(6)]
