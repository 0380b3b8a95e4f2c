"""What can happen to tasks on a real Slurm: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest
from cluster_runs import Cluster
from cryosiam_engine.slurm.retries import retry_failed
from cryosiam_engine.slurm.settings import JobSettings

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Start = Callable[..., Cluster]


def test_one_corrupt_among_twelve_and_no_gpu_shared(start: Start) -> None:
    """Six pretended GPUs, eleven good tomograms; CUDA_VISIBLE_DEVICES is what Slurm gave."""
    deeds = {f"TS_{number:02d}": "sleep 1" for number in range(12)}
    deeds["TS_05"] = "corrupt"
    run = start(deeds, settings=JobSettings(memory="100M", cpus=1, gres="gpu:1"))
    run.finish()
    assert sorted(run.done) == sorted(set(deeds) - {"TS_05"})
    assert run.reasons() == {"TS_05": "engine error"}
    busy: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for stem in run.done:
        first, last = run.started(stem)
        node, gpu, _, began, _ = first.split(" ")
        assert gpu in ("0", "1")
        busy.setdefault((node, gpu), []).append((float(began), float(last.split()[1])))
    for times in busy.values():
        ordered = sorted(times)
        assert all(one[1] <= two[0] for one, two in zip(ordered, ordered[1:], strict=False))
    assert len(busy) > 2


def test_a_cancelled_task_is_reported_and_computed_when_asked_for(start: Start) -> None:
    run = start({"A": "wait go", "B": "sleep 1"})
    run.until(run.begun("A"))
    subprocess.run(["scancel", run.job(0)], check=True)
    run.finish()
    assert run.reasons() == {"A": "cancelled"}
    (run.place / "go").touch()
    assert retry_failed(run.run) == 1
    run.finish()
    assert sorted(run.done) == ["A", "B"]
    assert run.reasons() == {}


def test_the_engine_is_killed(start: Start) -> None:
    run = start({"A": "once 60", "B": "sleep 0", "C": "sleep 0"}, per_task=3)
    run.until(run.begun("A"))
    os.kill(run.process("A"), signal.SIGKILL)
    run.finish()
    assert sorted(run.done) == ["A", "B", "C"]
    assert run.earlier("A") == ["killed"]
    again = run.run.plan_of(run.run.journal.submissions[1])
    assert [item.attempt for item in again.items] == [1, 1]


def test_memory_runs_out(start: Start) -> None:
    """Slurm kills it; the next attempt gets half as much again, and plans with less."""
    run = start({"A": "memory"})
    run.finish()
    assert run.done == ["A"]
    assert run.earlier("A") == ["out of memory"]
    said = run.run.journal.failures["A"].text
    assert "OUT_OF_MEMORY" in said or "memory limit" in said
    assert run.starts("A")[-1].endswith(" 150")
    assert run.run.plan_of(run.run.journal.submissions[1]).memory_share == 0.5


def test_requeued_by_somebody(start: Start) -> None:
    run = start({"A": "once 60"})
    run.until(run.begun("A"))
    subprocess.run(["scontrol", "requeue", run.job(0)], check=True)
    run.finish()
    assert run.done == ["A"]
    assert not run.run.journal.failures


@pytest.mark.parametrize(("partition", "by_slurm"), [("cpu", True), ("cheap", False)])
def test_a_more_urgent_job_takes_the_place(start: Start, partition: str, by_slurm: bool) -> None:
    """Slurm queues the task again by itself, or ends it and leaves the rest to us."""
    settings = JobSettings(partition=partition, memory="100M", cpus=1)
    run = start({"A": "once 60", "B": "sleep 0"}, settings=settings)
    run.until(run.begun("A"))
    words = ["sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null"]
    words += [f"--nodelist={run.node('A')}", "--wrap", "sleep 2"]
    urgent = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    try:
        run.finish()
    finally:
        subprocess.run(["scancel", "--quiet", urgent], check=True)
    assert sorted(run.done) == ["A", "B"]
    assert len(run.starts("A")) == 2
    assert len(run.starts("B")) == 1
    # There was time to clean up; the second start may have come before the end of the first.
    assert sum(line.endswith("interrupted") for line in run.started("A")) == 1
    assert len(run.run.journal.submissions) == (1 if by_slurm else 2)
    assert by_slurm or run.earlier("A") == ["preempted"]


def test_near_the_time_limit_a_task_queues_itself_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tomogram is done before, one after; none twice."""
    monkeypatch.setattr(JobSettings, "warning_seconds", 40)
    run = start(
        {"A": "sleep 0", "B": "once 300"}, per_task=2, settings=JobSettings(memory="100M", time="1")
    )
    run.until(run.begun("B"))
    run.finish(150)
    assert sorted(run.done) == ["A", "B"]
    assert len(run.run.journal.submissions) == 1
    assert len(run.starts("A")) == 1
    assert "queued again" in (run.place / "run" / "array_001" / "logs" / "0.log").read_text()


def test_the_disk_of_one_node_is_full(start: Start) -> None:
    """Its tasks fail at once, so that it is always free for the next one."""
    deeds = {f"TS_{number}": "full n1" for number in range(5)}
    run = start(deeds, settings=JobSettings(memory="100M", cpus=4))
    run.finish()
    assert sorted(run.done) == sorted(deeds)
    failures = run.run.journal.failures
    assert failures
    assert all(one.earlier == ["writing failed"] for one in failures.values())
    assert all("No space left" in one.text for one in failures.values())
    for stem in deeds:
        assert run.node(stem) != "n1"
        assert len(run.starts(stem)) == 1 + (stem in failures)
