"""The Apptainer image: what is in it, and how the launcher starts it. More is in test_runs.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import container_builds
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

import cryosiam_plugin
from cryosiam_plugin import launcher
from cryosiam_plugin.container_checks import engine_version, has_nvidia_gpu
from cryosiam_plugin.launcher import LaunchSettings, engine_command

pytestmark = pytest.mark.container


def engine(sif: Path, *words: object, user: int = 0, bind: Path | None = None, **options):
    binds = ["--bind", bind] if bind else []
    return apptainer("run", *binds, sif, *words, user=user, **options)


# ------------------------------------------------------------------ what is in it


def test_it_says_what_it_is(sif: Path) -> None:
    done = engine(sif, "--version")
    version = done.stdout.split()[-1]
    assert version == cryosiam_plugin.__version__
    assert "semantic_predict" in engine(sif, "--help").stdout
    labels = json.loads(apptainer("inspect", "--json", "--labels", sif).stdout)
    labels = labels["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.title"] == "cryosiam-engine"
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.revision"] == container_builds.revision("sif")
    assert labels["org.opencontainers.image.licenses"] == "GPL-3.0-or-later"
    assert labels["cryosiam.models"] == "published CryoSiam models 1.0 (.ckpt), .safetensors"
    assert labels["cryosiam.torch"] == "cpu"
    assert "denoise_predict" in apptainer("run-help", sif).stdout
    itself = json.loads(apptainer("exec", sif, "cat", "/etc/cryosiam-image.json").stdout)
    assert itself["version"] == version
    assert itself["revision"] == container_builds.revision("sif")
    assert engine_version("apptainer", str(sif)) == version


def test_an_ordinary_user_has_built_it(sif: Path) -> None:
    """As with ``scipion3 installb``; who is root has no need of what he needs."""
    if container_builds.GIVEN or container_builds.builder() is None:
        pytest.skip("the image was built by whoever runs the tests")
    assert sif.owner() == container_builds.builder()
    assert sif.stat().st_uid != 0


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
    text = container_builds.REQUIREMENTS.read_text()
    pinned = [line.split()[0] for line in text.splitlines() if "==" in line]
    freeze = apptainer("exec", sif, "/opt/cryosiam/bin/python", "-m", "pip", "freeze", "--all")
    installed = set(freeze.stdout.split())
    assert {word for word in pinned if not word.startswith("torch==")} <= installed


# ------------------------------------------------------------------ started by the launcher


#: Names that apptainer's --bind would part, trim or change; here the only odd part of a path.
MISREAD = ("a^b", "trailing ", "back\\")


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
        for folder in (tmp_path / name for name in MISREAD):
            folder.mkdir(exist_ok=True)
            (folder / path.name).symlink_to(path)
            path = folder / path.name
        (inputs / path.name).symlink_to(path)
    config = denoising(project, inputs, project / "out")
    for path in [project, *project.rglob("*")]:
        os.chown(path, user, user, follow_symlinks=False)
    data.chmod(0o555)
    done = launched(sif, project, config, inputs.glob("*"), user, monkeypatch)
    assert done.returncode == 0, done.stderr
    assert states(project / "out") == {"TS_01": "done", "TS_02": "done"}
    assert not list(place.rglob("pwned"))
    status = json.loads((project / "out/status/TS_01.json").read_text("utf-8"))
    assert status["origin"]["image"]["path"] == str(sif)
    assert (project / "out" / "TS_01.mrc").stat().st_uid == user


def launched(
    sif: Path,
    project: Path,
    config: Path,
    inputs: Iterable[Path],
    user: int,
    monkeypatch: pytest.MonkeyPatch,
) -> subprocess.CompletedProcess:
    """Denoise by the launcher's line, in a container that sees nothing but what it is shown."""
    monkeypatch.chdir(project)
    settings = LaunchSettings("apptainer", sif=str(sif), version=cryosiam_plugin.__version__)
    argv = ["denoise_predict", "--config_file", str(config), "--device", "cpu"]
    command = engine_command(settings, argv, work_folder=project, inputs=inputs, use_gpu=False)
    environment = {**command.environment, "OMP_NUM_THREADS": "1", "APPTAINER_CONTAIN": "1"}
    return as_user(user, ["/bin/sh", "-c", command.shell_line], env=environment)


@pytest.mark.parametrize("user", [0, NOBODY])
def test_no_home_through_the_launcher(
    sif: Path, tomograms: Path, user: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be kept below the home folder goes to the run's own temporary folder."""
    project = shared_by_all(tmp_path) / "project"
    (project / "tmp").mkdir(parents=True)
    config = denoising(project, tomograms, project / "out")
    for path in [project, *project.rglob("*")]:
        os.chown(path, user, user)
    monkeypatch.setenv("HOME", str(tmp_path / "no home"))
    monkeypatch.delenv("CRYOSIAM_CACHE", raising=False)
    done = launched(sif, project, config, tomograms.glob("*"), user, monkeypatch)
    assert done.returncode == 0, done.stderr
    assert states(project / "out") == {"TS_01": "done", "TS_02": "done"}
    kept = list((project / "tmp" / "cache").rglob("*"))
    assert kept
    assert {path.stat().st_uid for path in kept} == {user}
    assert not (tmp_path / "no home").exists()


def test_a_file_beside_the_images_own_folders_hides_nothing(
    sif: Path, tomograms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tomogram that lies directly in /opt, where the engine is in the image."""
    if os.geteuid() != 0:
        pytest.skip("only root may write to /opt")
    project = tmp_path / "project"
    inputs = project / "inputs"
    inputs.mkdir(parents=True)
    source = Path("/opt") / f"{tmp_path.name}-{os.getpid()}.mrc"
    shutil.copy(tomograms / "TS_01.mrc", source)
    try:
        (inputs / "TS_01.mrc").symlink_to(source)
        config = denoising(project, inputs, project / "out")
        done = launched(sif, project, config, inputs.glob("*"), 0, monkeypatch)
    finally:
        source.unlink()
    assert done.returncode == 0, done.stderr
    assert states(project / "out") == {"TS_01": "done"}


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
