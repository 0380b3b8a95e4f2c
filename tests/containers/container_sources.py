"""What the images of the container tests are built from.

A Debian base made from this computer's packages, the pinned packages, downloaded before, and the
plugin's wheel, installed without the checkout.
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
#: Of images that are not built here: what they say that they were built from.
GIVEN_REVISION = os.environ.get("CRYOSIAM_TEST_REVISION")
#: Where PyTorch's builds without CUDA are, as the image's own script has it.
PYTORCH_INDEX = "https://download.pytorch.org/whl/cpu"

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"]


@contextmanager
def locked(what: str) -> Iterator[None]:
    """Let only one test process make something; others wait until it is there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f".lock-{what}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*words: object, **options: object) -> str:
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


def digest() -> str:
    """Of everything that gets into an image, and of what builds it."""
    found = hashlib.sha256()
    files = [PLUGIN / "container_installation.py", REPOSITORY / "setup.py"]
    files += Path(__file__).parent.glob("container_[bs]*.py")
    for folder in ("engine", "containers"):
        files += [path for path in (PLUGIN / folder).rglob("*") if path.is_file()]
    for path in sorted(files):
        if not any(part.endswith(("__pycache__", ".egg-info")) for part in path.parts):
            found.update(f"{path.relative_to(REPOSITORY)}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def base() -> Path:
    """A minimal Debian with Python in a folder; beside it the same as a tar file."""
    with locked("base"):
        run("bash", REPOSITORY / "scripts" / "container_base.sh", FOLDER / "base")
    return FOLDER / "base"


def wheels() -> Path:
    """The pinned packages, downloaded once for both images, which are then built offline."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    folder = FOLDER / f"wheels-{pins}"
    with locked("wheels"):
        if not folder.exists():
            partial = folder.with_suffix(".part")
            try:
                _download(partial, REQUIREMENTS)
            except AssertionError:
                # Nothing that pip is set up for here has PyTorch without CUDA.
                _download(partial, REQUIREMENTS, "--extra-index-url", PYTORCH_INDEX)
            partial.rename(folder)
    return folder


def _download(folder: Path, requirements: Path, *options: str) -> None:
    target = ["--python-version", "3.11", "--only-binary", ":all:", "--dest", folder]
    target += [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options]
    run(*pip, "--require-hashes", *target, "--requirement", requirements)


def installed_wheel() -> Path:
    """A folder with the plugin as its wheel installs it, away from the checkout."""
    source, site = FOLDER / "source", FOLDER / "site"
    with locked("site"):
        stamp = FOLDER / "site.digest"
        state = digest()
        if not stamp.exists() or stamp.read_text() != state:
            for folder in (source, site):
                shutil.rmtree(folder, ignore_errors=True)
            _copy_sources(source)
            (FOLDER / "revision").write_text(_commit(source))
            pip = [sys.executable, "-m", "pip"]
            run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", source / "dist", source)
            [wheel] = (source / "dist").glob("*.whl")
            run(*pip, "install", "--quiet", "--no-deps", "--target", site, wheel)
            shutil.rmtree(source)
            stamp.write_text(state)
    return site


def note_revision(kind: str) -> None:
    """Keep the commit that an image of a kind is built from."""
    shutil.copy(FOLDER / "revision", FOLDER / f"{kind}.revision")


def revision(kind: str) -> str:
    """The commit that an image of a kind was built from, which it has to name itself."""
    return GIVEN_REVISION or (FOLDER / f"{kind}.revision").read_text()


def _copy_sources(folder: Path) -> None:
    # In a copy: setuptools takes what an earlier build has left in the checkout.
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(PLUGIN, folder / "cryosiam_plugin", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "requirements.txt", "MANIFEST.in", "README.md"):
        shutil.copy(REPOSITORY / name, folder)


def _commit(folder: Path) -> str:
    """Make a repository of what is tested, which may not be committed yet; its only commit."""
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    # The same sources, the same commit.
    git = ["env", *(f"GIT_{role}_DATE=2000-01-01T00:00:00Z" for role in ("AUTHOR", "COMMITTER"))]
    git += ["git", "-C", folder, *who]
    run(*git, "init", "--quiet")
    run(*git, "add", "--all")
    run(*git, "commit", "--quiet", "--message", "As it is tested")
    return run(*git, "rev-parse", "HEAD").strip()
