"""``benchmarks/slurm_simulation``: what must hold whatever the cluster is like."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "benchmarks" / "slurm_simulation"


@pytest.fixture(scope="module", autouse=True)
def _importable():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def scenario(**values: object):
    return importlib.import_module("scenario").Scenario(**values)


def simulate(one):
    return importlib.import_module("simulation").simulate_run(one)


# Slurm gives out GPUs, starts tasks and is asked; costs and sizes are any.
CLUSTERS = st.fixed_dictionaries(
    {
        "tomograms": st.integers(1, 60),
        "seconds": st.floats(1, 300),
        "spread": st.floats(0, 1),
        "start_seconds": st.floats(0, 60),
        "per_task": st.integers(1, 12),
        "gpus": st.integers(1, 20),
        "gpus_per_node": st.integers(1, 8),
        "cap": st.integers(0, 10),
        "max_array_size": st.integers(2, 40),
        "cycle": st.floats(0.1, 60),
        "starts_per_cycle": st.integers(1, 100),
        "seed": st.integers(0, 1000),
    }
)
TROUBLES = st.fixed_dictionaries(
    {
        "failure_rate": st.floats(0, 0.6),
        "bad_rate": st.floats(0, 0.3),
        "preemptions_per_day": st.floats(0, 100),
        "crashes_per_day": st.floats(0, 24),
        "retries": st.integers(0, 3),
        "requeues": st.integers(0, 3),
        "time": st.sampled_from(("", "10", "30", "4:00:00")),
        # An array of 39 tasks, the largest above, must fit, or it could never be submitted.
        "max_jobs": st.integers(40, 80),
    }
)


def check(one, outcome) -> None:
    """What holds for every run."""
    stems = {f"TS_{number:06d}" for number in range(one.tomograms)}
    assert set(outcome.done) | set(outcome.failed) == stems, "lost"
    assert not set(outcome.done) & set(outcome.failed), "done and reported as failed"
    assert set(outcome.done.values()) <= {1}, "computed twice"
    assert outcome.most_running <= min(one.gpus, one.cap or one.gpus)
    assert outcome.largest_array <= one.max_array_size - 1
    assert outcome.makespan * one.gpus >= outcome.gpu_seconds >= outcome.useful_seconds - 1e-6
    assert 0 <= outcome.efficiency(one.gpus) <= 1


@settings(max_examples=40, deadline=None)
@given(CLUSTERS, TROUBLES)
def test_every_tomogram_is_done_once_or_reported(cluster, troubles):
    one = scenario(**cluster, **troubles)
    check(one, simulate(one))


@settings(max_examples=40, deadline=None)
@given(CLUSTERS, st.integers(1, 20))
def test_more_gpus_are_never_slower_where_nothing_fails(cluster, more):
    few = scenario(**cluster, time="")
    outcome = simulate(few)
    check(few, outcome)
    assert len(outcome.done) == few.tomograms
    assert outcome.useful_seconds == pytest.approx(few.draw_seconds().sum())
    many = simulate(replace(few, gpus=few.gpus + more))
    assert many.makespan <= outcome.makespan + 1e-6


def test_what_a_run_takes_can_be_told_in_advance():
    # Two GPUs, four tasks of two tomograms: two rounds of 10 + 2 * 60 s, one pass of the scheduler
    # in between, and the follower looks every 30 s by then.
    one = scenario(tomograms=8, per_task=2, gpus=2, seconds=60, spread=0, start_seconds=10, cycle=1)
    outcome = simulate(one)
    assert (outcome.n_tasks, outcome.n_arrays, outcome.most_running) == (4, 1, 2)
    assert outcome.gpu_seconds == pytest.approx(4 * 130)
    assert 260 <= outcome.makespan <= 260 + 30


def test_arrays_are_as_large_as_the_cluster_allows_and_no_larger():
    outcome = simulate(scenario(tomograms=250, max_array_size=101, gpus=50))
    assert (outcome.n_arrays, outcome.largest_array) == (3, 84)


def test_a_full_queue_takes_the_rest_later():
    few = scenario(tomograms=300, max_array_size=101, max_jobs=100, gpus=20)
    outcome = simulate(few)
    assert len(outcome.done) == 300
    assert outcome.n_submissions > outcome.n_arrays == 3


def test_a_damaged_tomogram_is_reported_and_not_tried_again():
    outcome = simulate(scenario(tomograms=40, bad_rate=0.2))
    assert outcome.failed and set(outcome.failed.values()) == {"engine error"}
    assert (outcome.n_arrays, outcome.n_tasks) == (1, 40)


def test_killed_tomograms_are_tried_as_often_as_was_said():
    one = scenario(tomograms=3, failure_rate=1.0, retries=2, requeues=0)
    outcome = simulate(one)
    assert outcome.n_tasks == 9
    assert 3 <= outcome.n_arrays <= 9
    assert set(outcome.failed.values()) == {"out of memory"}


def test_a_limit_shorter_than_a_tomogram_is_a_failure_and_a_longer_one_only_delays():
    short = simulate(scenario(tomograms=4, seconds=700, spread=0, time="10"))
    assert set(short.failed.values()) == {"time limit"}
    # Ten minutes, two of them for the warning: eight tomograms of a minute, with the start seven.
    delayed = scenario(tomograms=20, seconds=60, spread=0, per_task=20, time="10", requeues=2)
    outcome = simulate(delayed)
    assert not outcome.failed
    assert (outcome.n_tasks, outcome.n_starts) == (1, 3)
    assert simulate(replace(delayed, time="")).makespan < outcome.makespan


def test_preemption_and_crashes_cost_time_and_no_tomogram():
    calm = scenario(tomograms=60, gpus=6, gpus_per_node=2, per_task=10, seconds=120)
    rough = simulate(replace(calm, preemptions_per_day=200, crashes_per_day=10))
    assert len(rough.done) + len(rough.failed) == 60
    assert rough.n_starts > rough.n_tasks
    assert rough.makespan > simulate(calm).makespan
