"""What can happen to the cluster itself, while tasks run; one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_runs import Cluster, Condition
from cryosiam_engine.slurm.settings import JobSettings
from shared_cluster import cluster
from side_by_side import Start, side_by_side

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Begin = Callable[..., Cluster]


#: What Slurm says of nodes that take tasks, or will as soon as one has ended.
AT_WORK = ("idle", "mixed", "allocated", "completing")


def end(pid_file: str) -> None:
    """Ask a daemon to end."""
    os.kill(int(Path(pid_file).read_text()), signal.SIGTERM)


def have_nodes_back(seconds: float = 90) -> None:
    """Whoever comes next finds all nodes at work: Slurm leaves out those that were silent."""
    until = time.monotonic() + seconds
    words = ["sinfo", "--noheader", "--Node", "--format=%N %T"]
    while True:
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        states = dict(line.split() for line in answer.splitlines())
        away = [node for node, state in states.items() if state not in AT_WORK]
        if not away:
            return
        assert time.monotonic() < until, states
        for node in away:
            resume = ["scontrol", "update", f"nodename={node}", "state=resume"]
            subprocess.run(resume, stderr=subprocess.DEVNULL, check=False)
        time.sleep(1)


def check_done_once(run: Cluster, *stems: str) -> None:
    """Each has one result, that was told once; only what was interrupted began again."""
    assert sorted(run.done) == sorted(stems)
    assert not run.reasons()
    for stem in stems:
        assert len(run.ends(stem)) == 1, run.noted(stem)
        assert len(run.starts(stem)) <= 1 + max(1, run.interruptions(stem))


def test_a_node_goes_down(start: Begin) -> None:
    """With several tomograms at work on it, one done and others elsewhere; Slurm queues anew."""
    deeds = {"A": "once 60", "B": "once 60", "C": "sleep 0", "D": "sleep 6", "E": "sleep 6"}
    settings = JobSettings(memory="100M", cpus=2)  # two on each node
    run = start(deeds, settings=settings)
    run.until(run.begun("A", "B", "D"))
    run.until(lambda: run.ends("C"))
    node = run.node("A")
    on_it = [stem for stem in deeds if run.starts(stem) and run.node(stem) == node]
    words = ["scontrol", "update", f"nodename={node}"]
    subprocess.run([*words, "state=down", "reason=drill"], check=True)
    try:
        run.finish()
    finally:
        have_nodes_back()
    check_done_once(run, *deeds)
    assert len(run.starts("A")) == 2
    assert len(on_it) > 1
    assert len(run.starts("C")) == 1
    assert len(run.run.journal.submissions) == 1


def test_the_controller_is_restarted_and_the_queue_is_silent(start: Begin) -> None:
    """Tasks run on, end and wait meanwhile."""
    deeds = {"A": "sleep 8", "B": "sleep 2", "C": "sleep 0", "D": "sleep 0"}
    run = start(deeds, settings=JobSettings(memory="100M", cpus=1, cap=2))
    run.until(run.begun("A", "B"))
    end("/run/slurm-test/controller.pid")
    run.until(lambda: run.poll().progress.problem)
    assert cluster("controller").returncode == 0
    run.finish()
    have_nodes_back()
    check_done_once(run, *deeds)
    assert [len(run.starts(stem)) for stem in deeds] == [1] * 4
    assert not run.run.journal.failures


def test_munge_is_away_for_a_while(start: Begin) -> None:
    """Nobody can prove who he is: one task ends meanwhile, one goes on, one still waits.

    To the controller the nodes are dead, so that it queues their tasks again.
    """
    deeds = {"A": "sleep 5", "B": "sleep 24", "C": "sleep 0"}
    run = start(deeds, settings=JobSettings(memory="100M", cpus=1, cap=2))
    run.until(run.begun("A", "B"))
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
    finally:
        have_nodes_back()
    assert sorted(run.done) == sorted(deeds)
    assert not run.reasons()
    assert [len(run.ends(stem)) for stem in deeds] == [1, 1, 1]


def test_the_disk_of_one_node_is_full(start: Begin) -> None:
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


def pushed_aside(start: Start, partition: str) -> Iterator[Condition]:
    """By a more urgent job. That is no attempt: none but the first is allowed here."""
    settings = JobSettings(partition=partition, memory="100M", cpus=1)
    run = start({"A": "once 60", "B": "sleep 0"}, settings=settings, retries=0)
    yield lambda: run.starts("A") and run.ends("B")
    words = ["sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null"]
    words += [f"--nodelist={run.node('A')}", "--wrap", "sleep 2"]
    urgent = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    try:
        yield from run.finished()
    finally:
        subprocess.run(["scancel", "--quiet", urgent], check=True)
    assert sorted(run.done) == ["A", "B"]
    # Who shares its node with another of these drills may be pushed aside twice.
    assert len(run.starts("A")) >= 2
    assert len(run.ends("A")) == 1
    assert len(run.starts("B")) == 1
    assert run.interruptions("A") >= 1  # there was time to clean up
    by_slurm = partition == "cpu"
    assert (len(run.run.journal.submissions) == 1) == by_slurm
    assert by_slurm or set(run.earlier("A")) == {"preempted"}


def test_more_urgent_jobs_take_the_place(place: Path) -> None:
    """Slurm queues the task again by itself, or ends it and leaves the rest to us."""
    drills = {name: lambda start, name=name: pushed_aside(start, name) for name in ("cpu", "cheap")}
    for error in side_by_side(drills, place, 120).values():
        if error is not None:
            raise error
