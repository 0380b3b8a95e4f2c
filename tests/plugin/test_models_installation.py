"""What ``scipion3 installb cryosiam_models`` does: with the engine, and with wget without one."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from cryosiam_plugin import Plugin, constants
from cryosiam_plugin.installation import MODELS_TARGET, models_commands
from cryosiam_plugin.published_models import PublishedModel

sys.path.append(str(Path(__file__).parents[1] / "engine"))

WEIGHTS = b"weights"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def software(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scipion's folder for programs, with nothing in it."""
    for name in ("CRYOSIAM_MODELS", "CRYOSIAM_ENGINE_PYTHON", "CRYOSIAM_SIF", "SCIPION_HOME"):
        monkeypatch.delenv(name, raising=False)
    # Scipion itself does not bear a space here.
    software = tmp_path / "software"
    software.mkdir()
    return software


Install = Callable[..., bool]


@pytest.fixture
def install(software: Path) -> Install:
    """Run the recipe as Scipion does; give whether its target was there."""

    def run(*models: PublishedModel, package: str = "cryosiam_models-1.0") -> bool:
        folder = software / package
        folder.mkdir(exist_ok=True)
        (install_command, targets), (clean_up, none) = models_commands(models)
        assert (targets, none) == ([MODELS_TARGET], [])
        subprocess.run(["/bin/sh", "-c", install_command], cwd=folder)
        there = (folder / MODELS_TARGET).exists()
        subprocess.run(["/bin/sh", "-c", clean_up], cwd=folder)
        assert not (folder / MODELS_TARGET).exists()
        return there

    return run


def model(file: str = "m.ckpt", sha256: str | None = None) -> PublishedModel:
    return PublishedModel("m", file, "semantic", "o/r", "text", sha256=sha256)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# ------------------------------------------------------------------ without the engine


@pytest.fixture
def wget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wget that reads from a folder, and notes what it was asked for."""
    remote, tools = tmp_path / "remote", tmp_path / "bin"
    remote.mkdir()
    tools.mkdir()
    program = tools / "wget"
    program.write_text(
        f'#!/bin/sh\necho "$5" >>"{tmp_path}/asked"\ncp "{remote}/${{5##*/}}" "$4"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    (remote / "m.ckpt").write_bytes(WEIGHTS)
    return tmp_path / "asked"


def test_a_download_gets_its_name_when_it_is_complete(software, install, wget) -> None:
    folder = software / "cryosiam_models-1.0"
    assert not install(model("absent.ckpt"))
    assert visible(folder) == []
    assert install(model())
    assert (folder / "m.ckpt").read_bytes() == WEIGHTS
    assert install(model()), "and again, without asking again"
    assert wget.read_text().count("/m.ckpt\n") == 1


def test_a_download_is_verified(software, install, wget) -> None:
    assert not install(model(sha256="0" * 64))
    assert list((software / "cryosiam_models-1.0").iterdir()) == [], "and can be tried again"
    assert install(model(sha256=SHA256))


def test_one_missing_model_does_not_stop_the_others(software, install, wget) -> None:
    assert not install(model("absent.ckpt"), model())
    assert visible(software / "cryosiam_models-1.0") == ["m.ckpt"]


def test_a_single_model_goes_where_all_models_are(software, install, wget) -> None:
    assert install(model(), package="cryosiam_models-m")
    assert visible(software / "cryosiam_models-m") == []
    assert visible(software / "cryosiam_models-1.0") == ["m.ckpt"]
    (software / "cryosiam_models-1.0" / "m.ckpt").unlink()
    assert install(model(), package="cryosiam_models-m"), "what was deleted comes again"


def test_models_go_to_the_folder_that_is_set(
    software, install, wget, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, folder in (
        (str(tmp_path / "of the lab"), tmp_path / "of the lab"),
        ("~/models", tmp_path / "home" / "models"),
        ("software/models", tmp_path / "scipion" / "software" / "models"),
    ):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("SCIPION_HOME", str(tmp_path / "scipion"))
        monkeypatch.setenv("CRYOSIAM_MODELS", value)
        assert install(model())
        assert visible(folder) == ["m.ckpt"]
    assert visible(software / "cryosiam_models-1.0") == []


# ------------------------------------------------------------------ with the engine


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from hub_stand_in import Hub

    files = [m.file for m in Plugin.publishedModels()]
    hub = Hub({file: file.encode() * 1000 for file in files})
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield hub
    hub.close()


def test_the_installed_engine_downloads_and_verifies(
    software, install, hub, engine_python, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYOSIAM_ENGINE_PYTHON", engine_python)
    models = Plugin.publishedModels()
    assert install(*models)
    folder = software / "cryosiam_models-1.0"
    assert visible(folder) == sorted([*(m.file for m in models), "models.lock.json"])
    (folder / models[0].file).write_bytes(b"changed")
    assert not install(*models), "checked ever after"


def test_an_engine_in_scipions_software_is_found(software, install, hub, engine_python) -> None:
    programs = software / "cryosiam_engine-0.1.0" / "env" / "bin"
    programs.mkdir(parents=True)
    python = programs / "python"
    python.write_text(f'#!/bin/sh\nexec "{engine_python}" "$@"\n')
    python.chmod(0o755)
    lamella = next(m for m in Plugin.publishedModels() if m.name == "lamella")
    assert install(lamella, package="cryosiam_models-lamella")
    assert visible(software / "cryosiam_models-1.0") == [lamella.file, "models.lock.json"]


def test_an_engine_in_a_container_is_found(
    software, install, hub, engine_python, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command line, with a program in apptainer's place that runs the engine beside it."""
    apptainer, image = tmp_path / "apptainer", tmp_path / "engine.sif"
    image.touch()
    noted = tmp_path / "noted"
    apptainer.write_text(
        f'#!/bin/sh\necho "$@" >>"{noted}"\nshift 5\nexec "{engine_python}" -I -m '
        'cryosiam_engine.cli "$@"\n'
    )
    apptainer.chmod(0o755)
    monkeypatch.setenv("CRYOSIAM_APPTAINER", str(apptainer))
    monkeypatch.setenv("CRYOSIAM_SIF", str(image))
    lamella = next(m for m in Plugin.publishedModels() if m.name == "lamella")
    assert install(lamella)
    folder = software / "cryosiam_models-1.0"
    assert (folder / lamella.file).exists()
    assert f"exec --bind {folder} {image} cryosiam-engine models download lamella" in (
        noted.read_text()
    )


# ------------------------------------------------------------------ with Scipion's own class


@pytest.fixture
def scipion(domain, software, monkeypatch: pytest.MonkeyPatch):
    """Scipion's installer, with a folder for programs of its own."""
    funcs = pytest.importorskip("scipion.install.funcs")
    monkeypatch.setattr(funcs.Environment, "getEmFolder", staticmethod(lambda: str(software)))
    monkeypatch.setattr(funcs.Environment, "getEm", staticmethod(lambda name: str(software / name)))

    def run(name: str) -> None:
        monkeypatch.chdir(software)
        env = funcs.Environment(args=[name])
        env.setDefault(False)
        Plugin.defineBinaries(env)
        env.execute()

    return run


def test_scipion_installs_one_model_by_name(scipion, software, hub, engine_python, monkeypatch):
    monkeypatch.setenv("CRYOSIAM_ENGINE_PYTHON", engine_python)
    name = f"{constants.MODELS_PACKAGE}-particles-mycoplasma"
    scipion(name)
    folder = software / f"{constants.MODELS_PACKAGE}-{constants.MODELS_VERSION}"
    assert visible(folder) == ["cryosiam_semantic_myco_candidates.ckpt", "models.lock.json"]
    # A second time, after somebody deleted it: Scipion does not take it for installed.
    (folder / "cryosiam_semantic_myco_candidates.ckpt").unlink()
    scipion(name)
    assert (folder / "cryosiam_semantic_myco_candidates.ckpt").exists()


def test_the_name_alone_means_all_models(scipion, software, wget, monkeypatch) -> None:
    with pytest.raises(SystemExit):
        scipion(constants.MODELS_PACKAGE)
    asked = wget.read_text().splitlines()
    assert asked == [model.url for model in Plugin.publishedModels()]
