"""What ``scipion3 installb cryosiam_models`` does: with the engine, and with wget without one."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Callable

import pytest

from cryosiam_plugin import Plugin, constants
from cryosiam_plugin.installation import MODELS_TARGET, models_commands
from cryosiam_plugin.published_models import PublishedModel

sys.path.append(str(Path(__file__).parents[1] / "engine"))


def zipped(content: bytes) -> bytes:
    """A file of the kind that checkpoints are."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("archive/data.pkl", content)
    return written.getvalue()


WEIGHTS = zipped(random.Random(1).randbytes(200_000))  # noqa: S311
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def software(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scipion's folder for programs, with nothing in it."""
    for name in ("MODELS", "ENGINE_PYTHON", "SIF", "APPTAINER"):
        monkeypatch.delenv(f"CRYOSIAM_{name}", raising=False)
    for name in ("SCIPION_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "WGETRC", "http_proxy"):
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
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from hub_stand_in import Hub

    files = [m.file for m in Plugin.publishedModels()]
    hub = Hub({"m.ckpt": WEIGHTS, **{file: zipped(file.encode() * 1000) for file in files}})
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    yield hub
    hub.close()


@pytest.fixture
def wget(hub):
    """The real one, and the hub that it is sent to."""
    if shutil.which("wget") is None:
        pytest.skip("no wget")
    return hub


def test_a_download_gets_its_name_when_it_is_complete(software, install, wget) -> None:
    folder = software / "cryosiam_models-1.0"
    assert not install(model("absent.ckpt"))
    assert visible(folder) == []
    wget.behaviour["m.ckpt"].cut = [100_000]
    assert install(model())
    assert (folder / "m.ckpt").read_bytes() == WEIGHTS
    requests = wget.asked("GET", "/m.ckpt?signature")
    assert [headers.get("range") for headers in requests] == [None, "bytes=100000-"]
    wget.requests.clear()
    assert install(model()), "and again, without asking again"
    assert wget.requests == []


@pytest.mark.parametrize("told", [SHA256, None], ids=["by the list", "by the hub"])
def test_a_download_is_verified(told, software, install, wget, capfd) -> None:
    wget.behaviour["m.ckpt"].serve = zipped(b"other weights")
    assert not install(model(sha256=told))
    assert f"does not have the SHA-256 {SHA256}" in capfd.readouterr().err
    assert list((software / "cryosiam_models-1.0").iterdir()) == [], "and can be tried again"
    wget.behaviour["m.ckpt"].serve = None
    assert install(model(sha256=told))


def page(handler) -> None:
    """What a hotel answers to everything, until one has logged in."""
    text = b"<!DOCTYPE html><html><body>Welcome! Please log in.</body></html>"
    handler.note()
    handler.answer(200, {"Content-Type": "text/html", "Content-Length": str(len(text))})
    if handler.command == "GET":
        handler.wfile.write(text)


@pytest.mark.parametrize("kind", ["a page", "half of it", "another kind", "safetensors"])
def test_what_is_no_model_gets_no_name(
    kind, software, install, wget, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    """From a server that tells no checksums."""
    from hub_stand_in import _Front

    serve = {
        "a page": b"",
        "half of it": WEIGHTS[:150_000],
        "another kind": b"\x80\x02" + bytes(1000),
        "safetensors": (2).to_bytes(8, "little") + b"{}",
    }
    wget.behaviour["m.ckpt"].serve = serve[kind]
    send = page if kind == "a page" else lambda self: self.send_file(self.note().split("/")[-1])
    monkeypatch.setattr(_Front, "handle_file", send)
    folder = software / "cryosiam_models-1.0"
    there = install(model())
    told = capfd.readouterr().err
    if kind == "safetensors":
        assert there
        assert "its checksum is not known" in told
        return
    assert not there
    assert "is no model" in told
    assert "log in" in told
    assert list(folder.iterdir()) == []
    (folder / "m.ckpt").write_bytes(serve[kind])  # as earlier versions left it
    assert not install(model())
    assert "Delete it" in capfd.readouterr().err


@pytest.mark.parametrize("redirect", [True, False], ids=["redirected", "direct"])
def test_a_token_is_for_the_hub_alone(
    redirect, software, install, wget, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    wget.redirect = redirect
    wget.behaviour["m.ckpt"].token = "hf_secret"  # noqa: S105
    assert not install(model())
    wget.requests.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert install(model())
    asked = [
        headers.get("authorization")
        for method, address, headers in wget.requests
        if address.startswith("/o/r/")
    ]
    assert set(asked) == {"Bearer hf_secret"}
    assert all("authorization" not in headers for headers in wget.asked("GET", "signature"))
    assert list(temporary.iterdir()) == []


def test_nobody_is_asked_when_that_is_set(install, wget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not install(model())
    assert wget.requests == []


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


@pytest.fixture
def program(tmp_path, engine_python) -> Callable[[str], Path]:
    """Make a program in apptainer's place, that notes its words and runs the engine beside it."""

    def make(name: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir()
        path.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" END >>"{tmp_path}/noted"\nshift 5\n'
            f'exec "{engine_python}" -I -m cryosiam_engine.cli "$@"\n'
        )
        path.chmod(0o755)
        return path

    return make


@pytest.mark.parametrize("name", ["apptainer", "singularity", "the site's own"])
def test_an_engine_in_a_container_is_found(
    name, software, install, hub, program, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "engine.sif"
    image.touch()
    path = program(name)
    if name.startswith("the"):
        monkeypatch.setenv("CRYOSIAM_APPTAINER", str(path))
    else:
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CRYOSIAM_SIF", str(image))
    lamella = next(m for m in Plugin.publishedModels() if m.name == "lamella")
    assert install(lamella)
    folder = software / "cryosiam_models-1.0"
    assert (folder / lamella.file).exists()
    words = (tmp_path / "noted").read_text().split("END\n")[1].splitlines()
    assert words[:5] == ["exec", "--bind", str(folder), str(image), "cryosiam-engine"]
    assert words[5:] == ["models", "download", "lamella", "--folder", str(folder)]


@pytest.mark.parametrize("name", ["a:b", "a,b", 'a"b', "a b", "a^b"])
def test_every_folder_can_be_shown_to_the_container(
    name, install, hub, program, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine.sif").touch()
    monkeypatch.setenv("CRYOSIAM_APPTAINER", str(program("apptainer")))
    monkeypatch.setenv("CRYOSIAM_SIF", str(tmp_path / "engine.sif"))
    folder = tmp_path / name
    monkeypatch.setenv("CRYOSIAM_MODELS", str(folder))
    lamella = next(m for m in Plugin.publishedModels() if m.name == "lamella")
    assert install(lamella)
    assert (folder / lamella.file).exists()
    words = (tmp_path / "noted").read_text().splitlines()
    assert words[1] == "--mount"
    [row] = csv.reader([words[2]])
    assert row == ["type=bind", f"source={folder}", f"destination={folder}"]


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


def test_the_name_alone_means_all_models(scipion, software, wget) -> None:
    scipion(constants.MODELS_PACKAGE)
    folder = software / f"{constants.MODELS_PACKAGE}-{constants.MODELS_VERSION}"
    assert visible(folder) == sorted(model.file for model in Plugin.publishedModels())
