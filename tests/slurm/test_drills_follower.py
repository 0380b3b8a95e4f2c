"""What can happen to whoever submits and follows: the jobs go on, and are found again."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from cluster_runs import STAND_IN, Cluster
from cryosiam_engine.cli import main
from cryosiam_engine.slurm import run as run_module
from cryosiam_engine.slurm.follower import Follower
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.slurm.run import SlurmRun

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Start = Callable[..., Cluster]


def test_it_dies_while_it_submits(start: Start) -> None:
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
    assert all(len(run.starts(stem)) == 1 for stem in ("A", "B"))


@pytest.fixture
def command(place: Path) -> Iterator[subprocess.Popen]:
    """``cryosiam-engine slurm``: two tomograms wait for a file, one is done at once."""
    (place / "data").mkdir()
    for stem, deed in {"A": "wait go", "B": "wait go", "C": "sleep 0"}.items():
        (place / "data" / f"{stem}.mrc").write_text(deed)
    (place / "model.ckpt").touch()
    values = {
        "data_folder": str(place / "data"),
        "prediction_folder": str(place),
        "trained_model": str(place / "model.ckpt"),
    }
    (place / "run.yaml").write_text(yaml.safe_dump(values))
    python = place / "python"
    stand_in = f"{sys.executable} -I {shlex.quote(str(STAND_IN))}"
    python.write_text(
        f'#!/bin/sh\nshift 3  # the words that start the real one\nexec {stand_in} "$@"\n'
    )
    python.chmod(0o755)
    words = ["slurm", "denoise_predict", "--config_file", "run.yaml", "--native", str(python)]
    words += ["--cpus", "1", "--mem", "100M"]
    process = subprocess.Popen([sys.executable, "-m", "cryosiam_engine.cli", *words], cwd=place)
    yield process
    process.kill()
    main(["slurm", "cancel", str(place)])


def test_the_command_is_killed_while_it_follows(
    place: Path, command: subprocess.Popen, capfd: pytest.CaptureFixture[str]
) -> None:
    """By -9; one that comes later finds the jobs, and submits none of its own."""
    end = time.monotonic() + 120
    while not all((place / f"{stem}.started").exists() for stem in "ABC"):
        assert command.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    assert main(["slurm", "follow", str(place)]) == 2
    assert "followed by another process already" in capfd.readouterr().err
    command.kill()
    command.wait()
    assert main(["slurm", "status", str(place)]) == 0
    assert "running 2, done 1, failed 0 of 3" in capfd.readouterr().out
    (place / "go").touch()
    for _ in range(2):
        assert main(["slurm", "follow", str(place)]) == 0
    assert main(["slurm", "status", str(place)]) == 0
    assert "done 3, failed 0 of 3" in capfd.readouterr().out
    [folder] = (place / "slurm").iterdir()
    [submission] = Journal.read(folder).submissions
    name = submission.name.rpartition("-")[0]
    words = ["squeue", "--noheader", "--states=all", "--format=%F %j %T"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line for line in listed if name in line} == {
        f"{submission.job_id} {submission.name} COMPLETED"
    }
    for stem in "ABC":
        assert (place / f"{stem}.started").read_text().count('"began"') == 1


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
