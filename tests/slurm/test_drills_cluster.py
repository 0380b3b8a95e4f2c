"""What can happen to the cluster itself, while tasks run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_runs import Cluster
from cryosiam_engine.slurm.settings import JobSettings
from shared_cluster import cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Start = Callable[..., Cluster]


def end(pid_file: str) -> None:
    """Ask a daemon to end."""
    os.kill(int(Path(pid_file).read_text()), signal.SIGTERM)


def test_a_node_goes_down(start: Start) -> None:
    """Slurm queues its jobs again by itself."""
    run = start({"A": "once 60"})
    run.until(run.begun("A"))
    words = ["scontrol", "update", f"nodename={run.node('A')}"]
    subprocess.run([*words, "state=down", "reason=drill"], check=True)
    try:
        run.finish()
    finally:
        subprocess.run([*words, "state=resume"], check=False)
    assert run.done == ["A"]
    assert len(run.starts("A")) == 2
    assert len(run.run.journal.submissions) == 1


def test_the_controller_is_restarted_and_the_queue_is_silent(start: Start) -> None:
    run = start({"A": "sleep 8", "B": "sleep 1"})
    run.until(run.begun("A"))
    end("/run/slurm-test/controller.pid")
    run.until(lambda: run.poll().progress.problem)
    assert cluster("controller").returncode == 0
    run.finish()
    assert sorted(run.done) == ["A", "B"]
    assert not run.run.journal.failures


def test_munge_is_away_for_a_while(start: Start) -> None:
    """Nobody can prove who he is: one task ends meanwhile, one goes on, one still waits.

    To the controller the nodes are dead, so that it queues their tasks again.
    """
    deeds = {"A": "sleep 5", "B": "sleep 24", "C": "sleep 0"}
    run = start(deeds, settings=JobSettings(memory="100M", cpus=1, cap=2))
    run.until(lambda: run.started("A") and run.started("B"))
    end("/run/munge/munged.pid")
    back = time.monotonic() + 20
    try:
        run.until(lambda: run.poll().progress.problem)
        while time.monotonic() < back:
            assert not run.poll().is_over
            time.sleep(1)
    finally:
        assert cluster("munge").returncode == 0
    try:
        run.finish()
    finally:  # a node that failed to start a task gets no more of them
        words = ["scontrol", "update", "nodename=ALL", "state=resume"]
        subprocess.run(words, stderr=subprocess.DEVNULL, check=False)
    assert sorted(run.done) == sorted(deeds)
    assert not run.reasons()
    for stem in deeds:
        ends = [line for line in run.started(stem) if line.startswith("end")]
        assert len([line for line in ends if "interrupted" not in line]) == 1


def test_squeue_fails_for_a_while(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than the tasks take."""
    run = start({"A": "sleep 2"})
    run.until(run.begun("A"))
    broken = run.place / "bin"
    broken.mkdir()
    (broken / "squeue").write_text(
        "#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n"
    )
    (broken / "squeue").chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{broken}:{os.environ['PATH']}")
        end = time.monotonic() + 6
        while time.monotonic() < end:
            assert not run.poll().is_over
            time.sleep(0.5)
    run.finish()
    assert run.done == ["A"]


def test_more_tasks_than_an_array_may_have(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cap the second array waits for the first."""
    monkeypatch.setattr("cryosiam_engine.slurm.plan.LARGEST_ARRAY", 4)
    run = start({f"T{n}": "sleep 0" for n in range(8)}, settings=JobSettings(cap=4, cpus=1))
    run.finish()
    assert len(run.done) == 8
    assert len(run.run.journal.submissions) == 2
    ends = [float(run.started(f"T{n}")[1].split()[1]) for n in range(4)]
    starts = [float(run.started(f"T{n}")[0].split(" ")[3]) for n in range(4, 8)]
    assert max(ends) <= min(starts)
