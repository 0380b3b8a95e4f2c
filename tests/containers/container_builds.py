"""Builds, once per state of the sources, what the container tests look at.

Everything real: Apptainer, a Debian base made from this computer's packages, the plugin's wheel
installed without the checkout, and from that wheel alone the image, by Scipion's own installer.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGIN = REPOSITORY / "cryosiam_plugin"
FOLDER = Path(os.environ.get("CRYOSIAM_CONTAINERS", REPOSITORY / ".containers"))
REQUIREMENTS = PLUGIN / "containers" / "requirements-cpu.txt"
#: Images to test instead of those that are built: a file, and a name in buildah's storage.
GIVEN = os.environ.get("CRYOSIAM_TEST_SIF")
GIVEN_IMAGE = os.environ.get("CRYOSIAM_TEST_IMAGE")
#: Name of the OCI image.
IMAGE = "localhost/cryosiam-engine-test"
BUD = ("buildah", "bud", "--isolation", "chroot")

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"]


@contextmanager
def _locked(what: str) -> Iterator[None]:
    """Let only one test process make something; others wait until it is there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f".lock-{what}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*words: object, **options: object) -> str:
    """Run a step of a build; a failure shows what it said."""
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode == 3 and str(words[-1]).endswith((".sh", "base")):
        pytest.skip(said.strip())
    assert done.returncode == 0, f"{words}:\n{said[-6000:]}"
    return said


def _digest() -> str:
    """Of everything that gets into an image, and of what builds it."""
    digest = hashlib.sha256()
    files = [PLUGIN / "container_installation.py", REPOSITORY / "setup.py", Path(__file__)]
    for folder in ("engine", "containers"):
        files += [path for path in (PLUGIN / folder).rglob("*") if path.is_file()]
    for path in sorted(files):
        if not any(part.endswith(("__pycache__", ".egg-info")) for part in path.parts):
            digest.update(f"{path.relative_to(REPOSITORY)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _base() -> Path:
    with _locked("base"):
        _run("bash", REPOSITORY / "scripts" / "container_base.sh", FOLDER / "base")
    return FOLDER / "base"


def _wheels() -> Path:
    """The pinned packages, downloaded once for both images, which are then built offline."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = FOLDER / f"wheels-{pins}"
    with _locked("wheels"):
        if not folder.exists():
            partial = folder.with_suffix(".part")
            target = ["--python-version", "3.11", "--only-binary", ":all:", "--dest", partial]
            target += [word for platform in PLATFORMS for word in ("--platform", platform)]
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            _run(*pip, "--require-hashes", *target, "--requirement", REQUIREMENTS)
            partial.rename(folder)
    return folder


def _installed_wheel() -> Path:
    """A folder with the plugin as its wheel installs it, away from the checkout."""
    source, site = FOLDER / "source", FOLDER / "site"
    for folder in (source, site):
        shutil.rmtree(folder, ignore_errors=True)
    # In a copy: setuptools takes what an earlier build has left in the checkout.
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(PLUGIN, source / "cryosiam_plugin", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "requirements.txt", "MANIFEST.in", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip"]
    _run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", source / "dist", source)
    [wheel] = (source / "dist").glob("*.whl")
    _run(*pip, "install", "--quiet", "--no-deps", "--target", site, wheel)
    shutil.rmtree(source)
    return site


def sif() -> Path:
    """The Apptainer image, built by ``installb`` of a Scipion that has only the wheel."""
    if GIVEN:
        return Path(GIVEN)
    with _locked("sif"):
        stamp = FOLDER / "sif.digest"
        software = FOLDER / "software"
        digest = _digest()
        if not stamp.exists() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(software, ignore_errors=True)
            _run("bash", REPOSITORY / "scripts" / "install_apptainer.sh")
            _install_by_scipion(_base(), _wheels(), _installed_wheel(), software)
            stamp.write_text(digest)
        [image] = software.glob("em/cryosiam_sif-*/cryosiam-engine.sif")
        return image


def _install_by_scipion(base: Path, wheels: Path, site: Path, software: Path) -> None:
    options = f"--build-arg TORCH=cpu --build-arg BOOTSTRAP=localimage --build-arg BASE='{base}'"
    options += f" --bind '{wheels}:/mnt' --build-arg 'PIP_OPTIONS=--no-index --find-links /mnt'"
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "CRYOSIAM_SIF_OPTIONS": options,
        "CRYOSIAM_SIF_COMPRESSION": "1",
        "SCIPION_SOFTWARE": str(software),
        "EM_ROOT": str(software / "em"),
    }
    (software / "em").mkdir(parents=True)
    # What `scipion3 installb cryosiam_sif` runs, in the plugin of that folder.
    program = (
        "import sys, pyworkflow, cryosiam_plugin; from scipion.install.funcs import Environment;"
        f"assert cryosiam_plugin.__file__.startswith({str(site)!r}), cryosiam_plugin.__file__;"
        "sys.argv = ['installb', 'cryosiam_sif', '-j', '1'];"
        "env = Environment(args=['cryosiam_sif']); env.setDefault(False);"
        "cryosiam_plugin.Plugin.defineBinaries(env); env.execute()"
    )
    said = _run(sys.executable, "-c", program, cwd=software, env=environment)
    (FOLDER / "sif.log").write_text(said)


def image() -> str:
    """The OCI image of the Dockerfile, built by buildah; its name there."""
    if GIVEN_IMAGE:
        return GIVEN_IMAGE
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("the OCI image is built as root on Debian")
    with _locked("image"):
        stamp = FOLDER / "image.digest"
        digest = _digest()
        if not stamp.exists() or stamp.read_text() != digest:
            _install_buildah()
            _build_base_image(_base())
            arguments = ["BASE=localhost/base", "TORCH=cpu", "VERSION=test", "REVISION=test"]
            arguments += ["PIP_OPTIONS=--no-index --find-links /mnt"]
            words = [word for argument in arguments for word in ("--build-arg", argument)]
            words += ["--volume", f"{_wheels()}:/mnt:ro", "-t", IMAGE]
            # Of an earlier state; without its name it would lie there for ever.
            _forget_image()
            _run(*BUD, *words, "-f", PLUGIN / "containers" / "Dockerfile", PLUGIN)
            stamp.write_text(digest)
    return IMAGE


def _forget_image() -> None:
    if subprocess.run(["buildah", "inspect", IMAGE], capture_output=True).returncode == 0:
        _run("buildah", "rmi", IMAGE)


def _install_buildah() -> None:
    if not shutil.which("buildah"):
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "buildah")


def _build_base_image(base: Path) -> None:
    if subprocess.run(["buildah", "inspect", "localhost/base"], capture_output=True).returncode:
        context = FOLDER / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        tar = context / "base.tar"
        tar.unlink(missing_ok=True)
        os.link(f"{base}.tar", tar)
        _run(*BUD, "-t", "localhost/base", context)
