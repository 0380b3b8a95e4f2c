"""The Apptainer image: what is in it, and how the launcher starts it. More is in test_runs.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from container_runs import (
    HOSTILE,
    NOBODY,
    apptainer,
    as_user,
    denoising,
    for_user,
    shared_by_all,
    states,
)

from cryosiam_plugin import launcher
from cryosiam_plugin.container_checks import has_nvidia_gpu
from cryosiam_plugin.launcher import LaunchSettings, engine_command

pytestmark = pytest.mark.container


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


# ------------------------------------------------------------------ started by the launcher


@pytest.mark.parametrize("user", [0, NOBODY])
def test_hostile_paths_through_the_launcher(
    sif: Path, tomograms: Path, user: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links out of the project into a folder that cannot be written, every name hostile."""
    place = shared_by_all(tmp_path) / f"{HOSTILE}: all, of it"
    data, project, inputs = place / "data", place / "project", place / "project" / "inputs"
    inputs.mkdir(parents=True)
    shutil.copytree(tomograms, data)
    for path in sorted(data.glob("*.mrc")):
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


def test_the_driver_is_given_to_it_with_a_gpu_only(
    sif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real --nv, which brings in what it finds of the driver: here a program of ours."""
    devices, programs = tmp_path / "dev", tmp_path / "bin"
    for folder in (devices, programs):
        folder.mkdir()
    smi = programs / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 999.12.34\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(launcher, "has_nvidia_gpu", lambda: has_nvidia_gpu(devices))
    monkeypatch.chdir(tmp_path)
    settings = LaunchSettings("apptainer", sif=str(sif))

    def diagnosis(use_gpu: bool, device: str) -> dict:
        argv = ["doctor", "--json", "--device", device]
        command = engine_command(settings, argv, work_folder=tmp_path, use_gpu=use_gpu)
        done = as_user(os.geteuid(), ["/bin/sh", "-c", command.shell_line], env=command.environment)
        return json.loads(done.stdout)

    assert diagnosis(use_gpu=True, device="cpu")["driver"] is None, "no GPU, no --nv"
    (devices / "nvidia0").touch()
    assert diagnosis(use_gpu=False, device="cpu")["driver"] is None
    found = diagnosis(use_gpu=True, device="cuda")
    assert found["driver"] == "999.12.34"
    assert not found["usable"], "this image has no CUDA"


def test_a_user_of_this_computer_can_start_it(sif: Path) -> None:
    done = subprocess.run(for_user(NOBODY, ["apptainer", "run", str(sif), "--version"]), cwd="/")
    assert done.returncode == 0
