"""The Apptainer image at work: what is in it, for whom, with which paths, and when stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from container_runs import NOBODY, apptainer, as_user, denoising, for_user, shared_by_all, states

from cryosiam_plugin.container_checks import CONTAINER_FOLDER
from cryosiam_plugin.launcher import LaunchSettings, engine_command

pytestmark = pytest.mark.container

#: As bad as a folder's name gets.
HOSTILE = 'it\'s "a" test; $(touch pwned) `touch pwned`, 100%: Å 試料'


def engine(sif: Path, *words: object, user: int = 0, bind: Path | None = None, **options):
    binds = ["--bind", bind] if bind else []
    return apptainer("run", *binds, sif, *words, user=user, **options)


# ------------------------------------------------------------------ what is in it


def test_it_says_what_it_is(sif: Path) -> None:
    import cryosiam_plugin

    done = engine(sif, "--version")
    version = done.stdout.split()[-1]
    assert version == cryosiam_plugin.__version__
    assert "semantic_predict" in engine(sif, "--help").stdout
    labels = json.loads(apptainer("inspect", "--json", "--labels", sif).stdout)
    labels = labels["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.revision"]
    assert "CryoSiam models" in labels["cryosiam.models"]
    assert "denoise_predict" in apptainer("run-help", sif).stdout
    itself = json.loads(apptainer("exec", sif, "cat", "/etc/cryosiam-image.json").stdout)
    assert itself["version"] == version
    assert itself["revision"] == labels["org.opencontainers.image.revision"]


def test_its_checksum_is_beside_it(sif: Path) -> None:
    check = ["sha256sum", "--check", f"{sif.name}.sha256"]
    assert subprocess.run(check, cwd=sif.parent).returncode == 0


def test_nothing_of_the_build_is_left(sif: Path) -> None:
    found = apptainer(
        "exec", sif, "sh", "-c", "ls /opt; find / -xdev -name '*.whl' -o -xdev -path '*/.cache/pip'"
    )
    listed = [line for line in found.stdout.splitlines() if "ensurepip" not in line]
    assert [line for line in listed if "python-wheels" not in line] == ["cryosiam"]


def test_the_packages_are_the_pinned_ones(sif: Path) -> None:
    from container_builds import REQUIREMENTS

    pinned = [line.split()[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
    freeze = apptainer("exec", sif, "/opt/cryosiam/bin/python", "-m", "pip", "freeze", "--all")
    installed = set(freeze.stdout.split())
    assert {word for word in pinned if not word.startswith("torch==")} <= installed


# ------------------------------------------------------------------ for whom


@pytest.mark.parametrize("user", [0, NOBODY])
def test_it_works_for_everybody_without_a_home(sif: Path, user: int, tmp_path: Path) -> None:
    """Its own test (diagnosis, simulation, denoising) and what compiles at its first import."""
    home = shared_by_all(tmp_path) / "home"
    home.mkdir(mode=0o555)
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    program = "sh /opt/cryosiam/share/self_test.sh && python -c 'import umap, matplotlib.pyplot'"
    # A folder that is there and not writable, as on some compute nodes.
    words = ["exec", "--no-mount", "home,cwd", "--bind", f"{home}:{home}:ro"]
    done = apptainer(*words, sif, "sh", "-c", program, user=user, env=environment, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "The image works." in done.stdout
    # Apptainer itself may keep settings there, where root does not mind the folder's mode.
    assert {path.name for path in home.iterdir()} <= {".apptainer"}


def test_a_gpu_that_is_not_there_is_an_error(sif: Path, tomograms: Path, tmp_path: Path) -> None:
    if any(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this computer has a GPU")
    config = denoising(tmp_path, tomograms, tmp_path / "out")
    words = ["denoise_predict", "--config_file", config, "--device", "cuda"]
    done = engine(sif, *words, bind=f"{tmp_path},{tomograms}")
    assert done.returncode == 2
    assert "without CUDA" in done.stderr
    assert set(states(tmp_path / "out").values()) == {"failed"}


def test_golden_data(sif: Path, golden: Path, tmp_path: Path) -> None:
    """The original's own numbers, from inside of the image."""
    import yaml

    golden = golden.resolve()  # a link leads nowhere in there
    config = yaml.safe_load((golden / "01_denoise" / "config.yaml").read_text())
    config["prediction_folder"] = str(tmp_path / "out")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    words = ["denoise_predict", "--config_file", tmp_path / "run.yaml", "--tiling", "reference"]
    binds = ["--bind", f"{golden},{tmp_path}", "--pwd", golden]
    done = apptainer("run", *binds, sif, *words, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    theirs = sorted((golden / "01_denoise" / "out").glob("*.mrc"))
    assert theirs
    for path in theirs:
        with mrcfile.open(path) as expected, mrcfile.open(tmp_path / "out" / path.name) as found:
            np.testing.assert_allclose(found.data, expected.data, atol=1e-4)


# ------------------------------------------------------------------ with which paths


@pytest.mark.parametrize("user", [0, NOBODY])
def test_hostile_paths_through_the_launcher(
    sif: Path, tomograms: Path, user: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links out of the project into a folder that cannot be written, every name hostile."""
    place = shared_by_all(tmp_path) / HOSTILE
    data, project, inputs = place / "data", place / "project", place / "project" / "inputs"
    inputs.mkdir(parents=True)
    shutil.copytree(tomograms, data)
    for path in sorted(data.glob("*.mrc"))[:2]:
        (inputs / path.name).symlink_to(path)
    config = denoising(project, inputs, project / "out")
    for path in [project, *project.rglob("*")]:
        os.chown(path, user, user, follow_symlinks=False)
    data.chmod(0o555)
    monkeypatch.chdir(project)
    settings = LaunchSettings("apptainer", sif=str(sif))
    argv = ["denoise_predict", "--config_file", str(config), "--device", "cpu"]
    command = engine_command(
        settings, argv, work_folder=project, inputs=inputs.glob("*"), use_gpu=False
    )
    environment = {**command.environment, "OMP_NUM_THREADS": "1"}
    done = as_user(user, ["/bin/sh", "-c", command.shell_line], env=environment)
    assert done.returncode == 0, done.stderr
    assert states(project / "out") == {"TS_01": "done", "TS_02": "done"}
    assert not list(place.rglob("pwned"))
    status = json.loads((project / "out/status/TS_01.json").read_text("utf-8"))
    assert status["origin"]["image"]["path"] == str(sif)
    assert (project / "out" / "TS_01.mrc").stat().st_uid == user


def test_it_knows_that_it_is_a_container(sif: Path) -> None:
    """What tells a Scipion inside of an image that it cannot start another one."""
    from cryosiam_plugin import container_checks

    module = Path(container_checks.__file__)
    program = (
        "import runpy; found = runpy.run_path('/tmp/checks.py')['enclosing_container'];"
        "print(found()); print(found({}))"
    )
    bind = ["--bind", f"{module}:/tmp/checks.py:ro"]
    done = apptainer("exec", *bind, sif, "python", "-c", program)
    assert done.stdout.splitlines() == [str(sif), str(CONTAINER_FOLDER)], done.stderr


# ------------------------------------------------------------------ when it is stopped


def test_a_stopped_run_says_so_and_goes_on(sif: Path, tomograms: Path, tmp_path: Path) -> None:
    config = denoising(tmp_path, tomograms, tmp_path / "out")
    words = ["apptainer", "run", "--bind", f"{tmp_path},{tomograms}", str(sif)]
    words += ["denoise_predict", "--config_file", str(config), "--device", "cpu"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while "running" not in states_so_far(tmp_path / "out"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, said
    errors = [json.loads(p.read_text())["error"] for p in (tmp_path / "out/status").glob("*.json")]
    assert "interrupted" in [error["type"] for error in errors if error]
    assert engine(sif, *words[5:], bind=f"{tmp_path},{tomograms}").returncode == 0
    assert set(states(tmp_path / "out").values()) == {"done"}


def states_so_far(results: Path) -> set[str]:
    try:
        return set(states(results).values())
    except OSError:  # replaced just now
        return set()


def test_a_full_disk_is_an_error_with_a_remedy(sif: Path, tomograms: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        config = denoising(tmp_path, tomograms, disk / "out")
        words = ["denoise_predict", "--config_file", config, "--device", "cpu"]
        done = engine(sif, *words, bind=f"{tmp_path},{tomograms}")
        assert done.returncode == 1, done.stderr
        assert "space" in done.stderr
        assert set(states(disk / "out").values()) == {"failed"}
        assert not list((disk / "out").glob("*.mrc"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_user_of_this_computer_can_start_it(sif: Path) -> None:
    done = subprocess.run(for_user(NOBODY, ["apptainer", "run", str(sif), "--version"]), cwd="/")
    assert done.returncode == 0
