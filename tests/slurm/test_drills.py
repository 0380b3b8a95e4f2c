"""Everything that can happen to a job array, on a real Slurm: nothing lost, nothing done twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_runs import STAND_IN, Cluster
from cryosiam_engine.slurm import run as run_module
from cryosiam_engine.slurm.follower import Follower
from cryosiam_engine.slurm.retries import retry_failed
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.settings import JobSettings
from shared_cluster import cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Start = Callable[..., Cluster]


def begun(run: Cluster, stem: str) -> Callable[[], object]:
    return lambda: run.started(stem)


def engine_process(run: Cluster, stem: str) -> tuple[str, int]:
    """Node and process of the last start."""
    node, *_, pid, _, _ = [line for line in run.started(stem) if not line.startswith("end")][
        -1
    ].split(" ")
    return node, int(pid)


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
    run.until(begun(run, "A"))
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
    run.until(begun(run, "A"))
    os.kill(engine_process(run, "A")[1], signal.SIGKILL)
    run.finish()
    assert sorted(run.done) == ["A", "B", "C"]
    assert run.earlier("A") == ["killed"]
    assert [item.attempt for item in run.run.plan_of(run.run.journal.submissions[1]).items] == [
        1,
        1,
    ]


def test_memory_runs_out(start: Start) -> None:
    """The next attempt gets half as much again, and plans with less."""
    run = start({"A": "memory"})
    run.finish()
    assert run.done == ["A"]
    assert run.earlier("A") == ["out of memory"]
    assert run.started("A")[-2].endswith(" 150")
    assert run.run.plan_of(run.run.journal.submissions[1]).memory_share == 0.5


def test_a_node_goes_down(start: Start) -> None:
    """Slurm queues its jobs again by itself."""
    run = start({"A": "once 60"})
    run.until(begun(run, "A"))
    node = engine_process(run, "A")[0]
    words = ["scontrol", "update", f"nodename={node}"]
    subprocess.run([*words, "state=down", "reason=drill"], check=True)
    try:
        run.finish()
    finally:
        subprocess.run([*words, "state=resume"], check=False)
    assert run.done == ["A"]
    starts = [line for line in run.started("A") if not line.startswith("end")]
    assert len(starts) == 2
    assert len(run.run.journal.submissions) == 1


def test_requeued_by_somebody(start: Start) -> None:
    run = start({"A": "once 60"})
    run.until(begun(run, "A"))
    subprocess.run(["scontrol", "requeue", run.job(0)], check=True)
    run.finish()
    assert run.done == ["A"]
    assert not run.run.journal.failures


def test_near_the_time_limit_a_task_queues_itself_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tomogram is done before, one after; none twice."""
    monkeypatch.setattr(JobSettings, "warning_seconds", 40)
    run = start(
        {"A": "sleep 0", "B": "once 300"}, per_task=2, settings=JobSettings(memory="100M", time="1")
    )
    run.until(begun(run, "B"))
    run.finish(150)
    assert sorted(run.done) == ["A", "B"]
    assert len(run.run.journal.submissions) == 1
    assert len([line for line in run.started("A") if not line.startswith("end")]) == 1
    assert "queued again" in (run.place / "run" / "array_001" / "logs" / "0.log").read_text()


def test_the_controller_is_restarted_and_the_queue_is_silent(start: Start) -> None:
    run = start({"A": "sleep 8", "B": "sleep 1"})
    run.until(begun(run, "A"))
    pid = int(Path("/run/slurm-test/controller.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    run.until(lambda: run.poll().progress.problem)
    assert cluster("controller").returncode == 0
    run.finish()
    assert sorted(run.done) == ["A", "B"]
    assert not run.run.journal.failures


def test_squeue_fails_for_a_while(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than the tasks take."""
    run = start({"A": "sleep 2"})
    run.until(begun(run, "A"))
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


def test_a_full_disk_is_tried_again_elsewhere(start: Start) -> None:
    run = start({"A": "full", "B": "sleep 0"})
    run.finish()
    assert sorted(run.done) == ["A", "B"]
    assert run.earlier("A") == ["writing failed"]


def test_the_follower_is_killed(start: Start, tmp_path: Path) -> None:
    """At the worst moment: Slurm has taken the job, and the journal does not know it."""
    run = start({"A": "sleep 4", "B": "sleep 0"})
    code = (
        "import os, sys\n"
        "from cryosiam_engine.slurm import programs, run, submitting\n"
        "submit = programs.SlurmPrograms.submit\n"
        "def dies(self, script, options=()):\n"
        "    submit(self, script, options)\n"
        "    os._exit(9)\n"
        "programs.SlurmPrograms.submit = dies\n"
        "submitting.submit_planned(run.SlurmRun.open(sys.argv[1]))\n"
    )
    died = subprocess.run([sys.executable, "-c", code, str(run.run.folder)], check=False)
    assert died.returncode == 9
    run.run = SlurmRun.open(run.run.folder)
    assert run.run.journal.submissions[0].state == "submitting"
    run.follower = Follower(run.run, grace=3)
    run.finish()
    assert sorted(run.done) == ["A", "B"]
    for stem in ("A", "B"):
        assert len([line for line in run.started(stem) if not line.startswith("end")]) == 1


def test_the_whole_run_is_cancelled(start: Start) -> None:
    run = start({f"TS_{n:02d}": "sleep 60" for n in range(20)}, settings=JobSettings(cap=3, cpus=1))
    run.until(begun(run, "TS_00"))
    SlurmRun.open(run.run.folder).cancel()
    run.finish(30)
    assert set(run.reasons().values()) == {"cancelled"}
    assert len(run.reasons()) == 20


def test_an_ordinary_user_with_an_old_python(place: Path) -> None:
    """What the plugin uses needs its own folder and the standard library, whose ever they are."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("no Python of the system")
    shutil.copytree(Path(run_module.__file__).parent, place / "slurm_core")
    shutil.copy(STAND_IN, place / "engine.py")
    (place / "follow.py").write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from slurm_core.follower import Follower\n"
        "from slurm_core.journal import Journal\n"
        "from slurm_core.plan import Item\n"
        "from slurm_core.run import SlurmRun\n"
        "here = Path.cwd()\n"
        "engine = f'{sys.executable} engine.py'\n"
        "journal = Journal('of-nobody', 'stand_in', [], engine, str(here), str(here / 'status'))\n"
        "items = [Item('A', 'sleep 0'), Item('B', 'corrupt')]\n"
        "run = SlurmRun.create(here / 'run', journal, items)\n"
        "follower, done, end = Follower(run, grace=3), [], time.monotonic() + 60\n"
        "while time.monotonic() < end:\n"
        "    poll = follower.poll()\n"
        "    done += poll.done\n"
        "    if poll.is_over:\n"
        "        print(done, sorted(journal.failures))\n"
        "        break\n"
        "    time.sleep(0.3)\n"
    )
    shutil.chown(place, "nobody")
    words = ["runuser", "-u", "nobody", "--", python, "follow.py"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True)
    assert done.stdout.strip() == "['A'] ['B']", done.stderr
    assert (place / "status" / "A.json").owner() == "nobody"


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
