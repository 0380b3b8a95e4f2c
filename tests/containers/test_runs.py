"""Both images at work, the Apptainer and the Docker one: for whom, on what, and when stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import yaml
from container_runs import HOSTILE, NOBODY, Runner, Sif, denoising, shared_by_all, states

pytestmark = pytest.mark.container

#: Somebody whom no list of users knows, as with ``docker run --user``.
STRANGER = 12345


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that everybody may write to."""
    shared_by_all(tmp_path).chmod(0o777)
    return tmp_path


@pytest.fixture
def no_home(place: Path) -> Path:
    home = place / "home"
    home.mkdir(mode=0o555)
    return home


# ------------------------------------------------------------------ for whom


@pytest.mark.parametrize(
    ("runner", "user"),
    # Apptainer runs nothing for a user without a name.
    [("sif", 0), ("sif", NOBODY), ("image", 0), ("image", STRANGER)],
    indirect=["runner"],
)
def test_its_own_test_passes(runner: Runner, user: int, no_home: Path) -> None:
    """Diagnosis, simulation, denoising."""
    done = runner.run("sh", "/opt/cryosiam/share/self_test.sh", user=user, home=no_home)
    assert done.returncode == 0, done.stderr
    assert "The image works." in done.stdout
    # Apptainer itself may keep settings there, where root does not mind the folder's mode.
    assert {path.name for path in no_home.iterdir()} <= {".apptainer"}


@pytest.mark.parametrize("user", [0, NOBODY])
def test_the_demo(runner: Runner, user: int, tomograms: Path, place: Path, no_home: Path) -> None:
    """Every step, on tomograms that are small; it would make its own where there are none."""
    demo = place / "my" / HOSTILE
    shutil.copytree(tomograms.parent, demo)
    hand_over(place / "my", user)
    words = ["cryosiam-engine", "demo", "--output", demo, "--device", "cpu"]
    done = runner.run(*words, user=user, binds=[place / "my"], home=no_home)
    assert done.returncode == 0, done.stderr
    assert {"TS_01.png", "TS_02.png", "scores.md", "scores.json"} <= {
        p.name for p in demo.iterdir()
    }
    assert (demo / "predictions" / "embeddings" / "embeddings_map.html").stat().st_size > 1e4
    assert (demo / "scores.md").stat().st_uid == user
    statuses = list((demo / "predictions").rglob("status/**/*.json"))
    commands = {command_of(path, runner) for path in statuses}
    assert len(commands) == 8, "every command's results name the image"
    assert not list(place.rglob("pwned"))


def command_of(status: Path, runner: Runner) -> str:
    """The command that a status is of; it has to name the image, too."""
    content = json.loads(status.read_text("utf-8"))
    image = content["origin"]["image"]
    assert image["version"]
    assert image["revision"]
    if isinstance(runner, Sif):
        recorded = runner.image.with_name(f"{runner.image.name}.sha256").read_text().split()[0]
        assert (image["path"], image["sha256"]) == (str(runner.image.resolve()), recorded)
    return content["command"]


# ------------------------------------------------------------------ on what


@pytest.mark.parametrize("user", [0, NOBODY])
def test_golden_data(runner: Runner, user: int, golden: Path, place: Path) -> None:
    """The original's own numbers, from inside of the image, which cannot write to its inputs."""
    golden = golden.resolve()  # a link leads nowhere in there
    config = yaml.safe_load((golden / "01_denoise" / "config.yaml").read_text())
    config["prediction_folder"] = str(place / "out")
    (place / "run.yaml").write_text(yaml.safe_dump(config))
    words = ["denoise_predict", "--config_file", place / "run.yaml", "--tiling", "reference"]
    where = {"user": user, "binds": [place], "read_only": [golden], "folder": golden}
    assert runner.run("touch", golden / "written", **where).returncode != 0
    done = runner.run("cryosiam-engine", *words, "--device", "cpu", **where)
    assert done.returncode == 0, done.stderr
    theirs = sorted((golden / "01_denoise" / "out").glob("*.mrc"))
    assert theirs
    for path in theirs:
        with mrcfile.open(path) as expected, mrcfile.open(place / "out" / path.name) as found:
            np.testing.assert_allclose(found.data, expected.data, atol=1e-4)


@pytest.mark.parametrize("user", [0, NOBODY])
@pytest.mark.parametrize("runner", ["image"], indirect=True)  # the other's is with the launcher
def test_hostile_paths(runner: Runner, tomograms: Path, user: int, place: Path) -> None:
    """Links out of the project into a folder that cannot be written, every name hostile."""
    data, project = place / "data", place / "project"
    inputs = project / HOSTILE / "inputs"
    inputs.mkdir(parents=True)
    shutil.copytree(tomograms, data / HOSTILE)
    for path in sorted((data / HOSTILE).glob("*.mrc")):
        (inputs / path.name).symlink_to(path)
    config = denoising(inputs.parent, inputs, inputs.parent / "out")
    hand_over(project, user)
    words = ["denoise_predict", "--config_file", config, "--device", "cpu"]
    where = {"user": user, "binds": [project], "read_only": [data]}
    done = runner.run("cryosiam-engine", *words, **where)
    assert done.returncode == 0, done.stderr
    assert states(inputs.parent / "out") == {"TS_01": "done", "TS_02": "done"}
    assert (inputs.parent / "out" / "TS_01.mrc").stat().st_uid == user
    assert not list(place.rglob("pwned"))


def hand_over(folder: Path, user: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user, user, follow_symlinks=False)


def test_a_gpu_that_is_not_there_is_an_error(runner: Runner, tomograms: Path, place: Path) -> None:
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this computer has a GPU")
    config = denoising(place, tomograms, place / "out")
    words = ["denoise_predict", "--config_file", config, "--device", "cuda"]
    done = runner.run("cryosiam-engine", *words, binds=[place], read_only=[tomograms])
    assert done.returncode == 2
    assert "without CUDA" in done.stderr
    assert set(states(place / "out").values()) == {"failed"}


# ------------------------------------------------------------------ when it is stopped


def test_a_stopped_run_says_so_and_goes_on(runner: Runner, tomograms: Path, place: Path) -> None:
    config = denoising(place, tomograms, place / "out")
    command = ["cryosiam-engine", "denoise_predict", "--config_file", config, "--device", "cpu"]
    where = {"binds": [place], "read_only": [tomograms]}
    words = runner.words(*command, **where)
    pipes = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, cwd="/", start_new_session=True, **pipes)
    try:
        deadline = time.monotonic() + 500  # on a busy computer
        while "running" not in states_so_far(place / "out"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        runner.stop(process)
        _, said = process.communicate(timeout=300)
    finally:
        with suppress(ProcessLookupError):  # as it should be
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + signal.SIGTERM, said
    errors = [json.loads(p.read_text())["error"] for p in (place / "out/status").glob("*.json")]
    assert "interrupted" in [error["type"] for error in errors if error]
    assert runner.run(*command, **where).returncode == 0
    assert set(states(place / "out").values()) == {"done"}


def states_so_far(results: Path) -> set[str]:
    try:
        return set(states(results).values())
    except OSError:  # replaced just now
        return set()


def test_a_full_disk_is_an_error_with_a_remedy(
    runner: Runner, tomograms: Path, place: Path
) -> None:
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k,mode=777", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        config = denoising(place, tomograms, disk / "out")
        words = ["denoise_predict", "--config_file", config, "--device", "cpu"]
        done = runner.run("cryosiam-engine", *words, binds=[place, disk], read_only=[tomograms])
        assert done.returncode == 1, done.stderr
        assert "space" in done.stderr
        assert set(states(disk / "out").values()) == {"failed"}
        assert not list((disk / "out").glob("*.mrc"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
