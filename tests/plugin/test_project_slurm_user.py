"""Scipion of an ordinary user on a real Slurm: each road gives what comes out without it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import cryosiam_plugin

sys.path.append(str(Path(__file__).parents[1] / "slurm"))
from ordinary_user import USER, everybodys_python, user
from shared_cluster import locked, running_cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROADS = ("protocol", "steps", "array")
IDS = ["TS_01.mrc", "TS_02.mrc"]


@pytest.fixture(scope="module")
def told(domain, engine_python):
    """What the user's project says of its runs, by road."""
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    place = Path(tempfile.mkdtemp(prefix="slurm-user-"))
    place.chmod(0o755)
    for name, folder in {"data": simulated_tomograms(2), "models": small_models()}.items():
        shutil.copytree(folder, place / name)
    hosts = Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf"
    (place / "home" / "config").mkdir(parents=True)
    shutil.copy(hosts, place / "home" / "config" / "hosts.conf")
    for path in (place, *place.rglob("*")):
        shutil.chown(path, USER)
    scipion = everybodys_python(sys.executable, place, "pyworkflow")
    if subprocess.run([scipion, "-c", "import tkinter"], capture_output=True).returncode:
        install = "apt-get install -y -qq python3-tk"
        script = f"{install} || {{ apt-get update -qq && {install}; }}"
        subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    engine = everybodys_python(engine_python, place)
    own = {
        "SCIPION_HOME": str(place / "home"),
        "SCIPION_USER_DATA": str(place / "userdata"),
        "SCIPION_PYTHON": scipion,
        "CRYOSIAM_ENGINE_PYTHON": engine,
    }
    script = Path(__file__).with_name("ordinary_project.py")
    words = [scipion, str(script), engine, str(place / "data"), str(place / "models"), str(place)]
    with running_cluster(), locked("turn"):
        done = user(words, place, own)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    yield json.loads((place / "told.json").read_text())
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("road", ROADS)
def test_results_are_those_of_home(told, road):
    assert sorted(told[road]["results"]) == IDS
    assert told[road]["results"] == told["here"]["results"], told[road]["log"]


@pytest.mark.parametrize("road", ROADS)
def test_all_of_it_is_the_user_s(told, road):
    """Nothing that Slurm or Scipion made is somebody else's."""
    assert told[road]["users"] == [USER]


@pytest.mark.parametrize("road", ROADS)
def test_each_engine_had_the_gpu_that_it_was_given(told, road):
    stems = [stem for one in told[road]["seen"] for stem in one["stems"]]
    assert sorted(f"{stem}.mrc" for stem in stems) == IDS
    assert {one["device"] for one in told[road]["seen"]} == {"cuda"}
    assert all(one["visible"] == one["given"] in ("0", "1") for one in told[road]["seen"])
