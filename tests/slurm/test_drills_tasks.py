"""What can happen to tasks on a real Slurm: nothing is lost, and nothing is done twice.

All of these run side by side.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from cluster_runs import STAND_IN, Cluster, Condition
from cryosiam_engine.demo_models import demo_model
from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.programs import SlurmPrograms
from cryosiam_engine.slurm.retries import retry_failed
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.settings import JobSettings
from cryosiam_engine.slurm.squeue import ArrayView
from cryosiam_engine.volume import read_volume, write_mrc
from shared_cluster import engines
from side_by_side import Start, side_by_side

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SLOW_ENGINE = Path(__file__).parents[1] / "engine" / "slow_engine.py"
#: Seconds for which a drill takes something away.
AWAY = 20.0
Steps = Iterator[Condition]


class WarnedSoon(JobSettings):
    """A limit of a minute, of which a quarter is left to the work."""

    warning_seconds: ClassVar[int] = 45  # type: ignore[misc]


ONE_MINUTE = WarnedSoon(memory="100M", cpus=1, time="1")


def one_corrupt_among_twelve(start: Start) -> Steps:
    """Six pretended GPUs, of which none is shared; each engine sees what Slurm gave its task."""
    deeds = {f"TS_{number:02d}": "sleep 1" for number in range(12)}
    deeds["TS_05"] = "corrupt"
    run = start(deeds, settings=JobSettings(memory="100M", cpus=1, gres="gpu:1"))
    yield from run.finished()
    assert sorted(run.done) == sorted(set(deeds) - {"TS_05"})
    assert run.reasons() == {"TS_05": "engine error"}
    assert len(run.starts("TS_05")) == 1
    busy: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for stem in run.done:
        [first], [last] = run.starts(stem), run.ends(stem)
        assert first["visible"] == first["given"]
        assert first["visible"] in ("0", "1")
        times = busy.setdefault((first["node"], first["visible"]), [])
        times.append((first["began"], last["ended"]))
    for times in busy.values():
        ordered = sorted(times)
        assert all(one[1] <= two[0] for one, two in zip(ordered, ordered[1:], strict=False))
    assert len(busy) > 2


def cancelled_and_asked_for(start: Start) -> Steps:
    run = start({"A": "wait go", "B": "sleep 1"})
    yield run.begun("A")
    subprocess.run(["scancel", run.job(0)], check=True)
    yield from run.finished()
    assert run.reasons() == {"A": "cancelled"}
    assert "CANCELLED AT" in run.run.journal.failures["A"].text  # what the log says
    (run.place / "go").touch()
    assert retry_failed(run.run) == 1
    yield from run.finished()
    assert sorted(run.done) == ["A", "B"]
    assert run.reasons() == {}


def engine_killed(start: Start) -> Steps:
    run = start({"A": "once 60", "B": "sleep 0", "C": "sleep 0"}, per_task=3)
    yield run.begun("A")
    os.kill(run.starts("A")[0]["process"], signal.SIGKILL)
    yield from run.finished()
    assert sorted(run.done) == ["A", "B", "C"]
    assert run.earlier("A") == ["killed"]
    again = run.run.plan_of(run.run.journal.submissions[1])
    assert [item.attempt for item in again.items] == [1, 1]


def real_engine_killed_while_it_writes(start: Start) -> Steps:
    """By -9, with its result half-written; the next attempt leaves nothing of that."""
    run = _real_run(start, "TS_1", "TS_2")
    yield lambda: (run.place / "TS_1.mrc.was_slow").exists()
    [half] = run.place.rglob(".TS_1.partial-*.mrc")
    [engine] = [e for e in engines(run.place) if e.environ()["SLURM_ARRAY_TASK_ID"] == "0"]
    engine.kill()
    yield from run.finished()
    assert not half.exists()
    assert sorted(run.done) == ["TS_1", "TS_2"]
    assert run.earlier("TS_1") == ["killed"]
    for stem in run.done:
        volume = read_volume(run.place / "out" / f"{stem}.mrc").data
        assert volume.shape == (32, 64, 64)
        assert np.isfinite(volume).all()


def _real_run(start: Start, *stems: str) -> Cluster:
    """Of the engine itself, on a disk that takes long to finish the first tomogram."""
    place = start.new_place()
    for number, stem in enumerate(stems):
        volume = np.random.default_rng(number).random((32, 64, 64), np.float32)
        write_mrc(place / "data" / f"{stem}.mrc", volume, voxel_size=13.48)
    config = place / "config.yaml"
    values = {"data_folder": place / "data", "prediction_folder": place / "out"}
    values = {**values, "trained_model": demo_model("denoising")}
    config.write_text(json.dumps({key: str(value) for key, value in values.items()}))
    return start(
        {stem: str(place / "data" / f"{stem}.mrc") for stem in stems},
        command="denoise_predict",
        options=["--config_file", str(config), "--device", "cpu"],
        engine=shlex.join([sys.executable, str(SLOW_ENGINE), "600", f"{stems[0]}.mrc"]),
        status_folder=str(place / "out" / "status"),
        settings=JobSettings(memory="1300M", cpus=1),
    )


def memory_runs_out(start: Start) -> Steps:
    """Slurm kills it; the next attempt gets half as much again, and plans with less."""
    run = start({"A": "memory"})
    yield from run.finished()
    assert run.done == ["A"]
    assert run.earlier("A") == ["out of memory"]
    said = run.run.journal.failures["A"].text
    assert "OUT_OF_MEMORY" in said or "memory limit" in said
    assert run.starts("A")[-1]["memory"] == "150"
    assert run.run.plan_of(run.run.journal.submissions[1]).memory_share == 0.5


def requeued_by_somebody(start: Start) -> Steps:
    run = start({"A": "once 60"})
    yield run.begun("A")
    subprocess.run(["scontrol", "requeue", run.job(0)], check=True)
    yield from run.finished()
    assert run.done == ["A"]
    assert len(run.starts("A")) == 2
    assert len(run.ends("A")) == 1
    assert not run.run.journal.failures


def near_the_time_limit_it_queues_itself_again(start: Start) -> Steps:
    """One tomogram is done before, one after; none twice."""
    run = start({"A": "sleep 0", "B": "once 300"}, per_task=2, settings=ONE_MINUTE)
    yield from run.finished()
    assert sorted(run.done) == ["A", "B"]
    assert len(run.run.journal.submissions) == 1
    assert len(run.starts("A")) == 1
    assert "queued again" in run.log(0)


def after_all_requeues_it_is_given_up(start: Start) -> Steps:
    """A tomogram that needs more than the limit: queued again once, then reported."""
    run = start({"A": "sleep 0", "B": "sleep 300"}, settings=ONE_MINUTE, requeues=1, retries=0)
    yield from run.finished()
    assert run.done == ["A"]
    assert run.reasons() == {"B": "time limit"}
    assert len(run.starts("B")) == 2
    assert run.interruptions("B") == 2
    assert "queued again" in run.run.journal.failures["B"].text  # the end of the log


def a_real_timeout(start: Start) -> Steps:
    """An engine that does not listen is ended by Slurm itself at the limit."""
    run = start({"A": "deaf 300", "B": "sleep 0"}, settings=ONE_MINUTE, retries=0)
    yield from run.finished()
    assert run.done == ["B"]
    assert run.reasons() == {"A": "time limit"}
    said = run.run.journal.failures["A"].text
    assert "TIMEOUT" in said
    assert "DUE TO TIME LIMIT" in said  # the end of the log
    assert len(run.starts("A")) == 1


BLACK_HOLE = """\
#!/bin/sh
# The node of the first task starts no engine.
ln -s "$SLURMD_NODENAME" black 2>/dev/null
if [ "$(readlink black)" = "$SLURMD_NODENAME" ]; then {ends}; fi
exec {python} -I {stand_in} "$@"
"""


def _black_hole(start: Start, ends: str, reason: str) -> Steps:
    text = BLACK_HOLE.format(
        ends=ends, python=shlex.quote(sys.executable), stand_in=shlex.quote(str(STAND_IN))
    )
    engine = start.new_place() / "engine.sh"
    engine.write_text(text)
    deeds = {f"TS_{number}": "sleep 2" for number in range(6)}
    run = start(deeds, engine=f"sh {shlex.quote(str(engine))}")
    yield from run.finished()
    assert sorted(run.done) == sorted(deeds)
    bad = (run.place / "black").readlink().name
    failures = run.run.journal.failures
    assert failures
    assert all(one.earlier == [reason] for one in failures.values())
    assert all(one.avoid == [bad] for one in failures.values())
    for stem in deeds:
        [began] = run.starts(stem)
        assert began["node"] != bad


def a_node_without_the_engine(start: Start) -> Steps:
    yield from _black_hole(start, "exec /no/such/engine", "engine not started")


def a_node_on_which_the_engine_crashes(start: Start) -> Steps:
    yield from _black_hole(start, "kill -SEGV $$", "crashed")


def a_node_that_does_not_see_the_run(start: Start) -> Steps:
    """Slurm cannot open the log there, and starts nothing."""
    run = start({"A": "sleep 0"})
    (run.script().parent / "logs").rename(run.place / "away")  # the next attempt has its own
    yield from run.finished()
    assert run.done == ["A"]
    assert run.earlier("A") == ["node failure"]
    [bad] = run.run.journal.failures["A"].avoid
    assert run.node("A") != bad


def submitted_twice(start: Start) -> Steps:
    """As a follower does it that is killed while its sbatch waits: the twin computes nothing."""
    run = start({"A": "wait go"})
    yield run.begun("A")
    words = ["sbatch", "--parsable", "job.sh"]
    folder = run.script().parent
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    twin = done.stdout.strip()
    words = ["squeue", "--noheader", f"--jobs={twin}"]
    yield lambda: not subprocess.run(words, capture_output=True, check=False).stdout.strip()
    (run.place / "go").touch()
    yield from run.finished()
    assert run.done == ["A"]
    assert len(run.starts("A")) == 1
    assert run.run.journal.submissions[0].job_id != twin


class Squeue(SlurmPrograms):
    """With another squeue for a while."""

    def __init__(self, place: Path, text: str) -> None:
        super().__init__()
        self._bin = place
        place.mkdir()
        (place / "squeue").write_text(f"#!/bin/sh\n{text}\n")
        (place / "squeue").chmod(0o755)
        self.is_away = False

    def look(self, names: object) -> dict[str, ArrayView]:
        path = os.environ["PATH"]
        try:
            if self.is_away:
                os.environ["PATH"] = f"{self._bin}:{path}"
            return super().look(names)  # type: ignore[arg-type]
        finally:
            os.environ["PATH"] = path


def _other_squeue(start: Start, text: str) -> Steps:
    """One task ends meanwhile, one goes on."""
    run = start({"A": "sleep 4", "B": f"sleep {AWAY + 8}"})
    yield run.begun("A", "B")
    programs = run.run.programs = Squeue(run.place / "bin", text)
    back = time.monotonic() + AWAY
    programs.is_away = True
    seen: list[bool] = []

    def is_back() -> bool:
        seen.append(run.is_over)
        return time.monotonic() > back

    yield is_back
    programs.is_away = False
    assert not any(seen)
    assert programs.n_looks > 5
    yield from run.finished()
    assert sorted(run.done) == ["A", "B"]
    assert not run.run.journal.failures
    assert [len(run.starts(stem)) for stem in "AB"] == [1, 1]


def squeue_fails(start: Start) -> Steps:
    yield from _other_squeue(start, "echo 'Unable to contact slurm controller' >&2; exit 1")


def squeue_lists_nothing(start: Start) -> Steps:
    """Though it says that all is well."""
    yield from _other_squeue(start, "exit 0")


def slurm_refuses(start: Start) -> Steps:
    """Slurm's own words are understood, and something can be done about them."""
    for settings, about in (
        (JobSettings(partition="none"), "partition"),
        (JobSettings(memory="999G"), "memory"),
        (JobSettings(gres="gpu:99"), "gpus"),
        (JobSettings(gres="tpu:1"), "gpus"),
        (JobSettings(extra=("--constraint=a b",)), "options"),
        (JobSettings(extra=("--nodelist=none",)), "options"),
        (JobSettings(extra=("--no-such-option=1",)), "options"),
    ):
        run = start({"A": "sleep 0"}, settings=settings)
        with pytest.raises(SlurmError) as raised:
            run.poll()
        assert about in raised.value.about, raised.value.message
        assert raised.value.remedy
        assert run.reasons() == {"A": "not submitted"}
        yield from run.finished()


def values_with_blanks_arrive(start: Start) -> Steps:
    run = start({"A": "wait go"}, settings=JobSettings(extra=('--comment=it\'s a "b" 100%',)))
    yield run.begun("A")
    words = ["squeue", "--noheader", "--format=%k", f"--jobs={run.job(0)}"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.strip() == 'it\'s a "b" 100%'
    (run.place / "go").touch()
    yield from run.finished()


def more_tasks_than_an_array_may_have(start: Start) -> Steps:
    """With a cap the second array waits for the first."""
    settings = JobSettings(memory="100M", cap=4, cpus=1)
    run = start({f"T{n}": "sleep 0" for n in range(8)}, settings=settings, largest=4)
    yield from run.finished()
    assert len(run.done) == 8
    assert len(run.run.journal.submissions) == 2
    ends = [run.ends(f"T{n}")[0]["ended"] for n in range(4)]
    assert max(ends) <= min(run.starts(f"T{n}")[0]["began"] for n in range(4, 8))


def the_whole_run_is_cancelled(start: Start) -> Steps:
    settings = JobSettings(memory="100M", cap=3, cpus=1)
    run = start({f"TS_{n:02d}": "sleep 60" for n in range(20)}, settings=settings)
    yield run.begun("TS_00")
    SlurmRun.open(run.run.folder).cancel()
    yield from run.finished()
    assert set(run.reasons().values()) == {"cancelled"}
    assert len(run.reasons()) == 20


DRILLS: Mapping[str, object] = {
    drill.__name__: drill
    for drill in (
        one_corrupt_among_twelve,
        cancelled_and_asked_for,
        engine_killed,
        real_engine_killed_while_it_writes,
        memory_runs_out,
        requeued_by_somebody,
        near_the_time_limit_it_queues_itself_again,
        after_all_requeues_it_is_given_up,
        a_real_timeout,
        a_node_without_the_engine,
        a_node_on_which_the_engine_crashes,
        a_node_that_does_not_see_the_run,
        submitted_twice,
        squeue_fails,
        squeue_lists_nothing,
        slurm_refuses,
        values_with_blanks_arrive,
        more_tasks_than_an_array_may_have,
        the_whole_run_is_cancelled,
    )
}


@pytest.fixture(scope="module")
def outcomes(
    place_of_module: Path, request: pytest.FixtureRequest
) -> dict[str, BaseException | None]:
    """What became of all drills that are asked for."""
    asked = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_drill"
    }
    drills = {name: drill for name, drill in DRILLS.items() if name in asked}
    return side_by_side(drills, place_of_module, 420)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DRILLS)
def test_drill(name: str, outcomes: dict[str, BaseException | None]) -> None:
    error = outcomes[name]
    if error is not None:
        raise error
