"""The images that the tests look at, and what these compute on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

pytest.register_assert_rewrite("container_builds", "container_runs", "container_sources")

# The image is built by Scipion's own installer, so these tests run where Scipion is.
HAS_SCIPION = importlib.util.find_spec("pyworkflow") is not None
collect_ignore_glob = [] if HAS_SCIPION else ["test_*.py"]
if HAS_SCIPION:
    os.environ.setdefault("SCIPION_HOME", str(REPOSITORY / ".scipion" / "home"))
    os.environ.setdefault("SCIPION_DOMAIN", "pwem")
    os.environ.setdefault("SCIPION_PYTHON", sys.executable)


@pytest.fixture(scope="session")
def sif() -> Path:
    """The Apptainer image, built from the plugin's wheel."""
    import container_builds

    return container_builds.sif()


@pytest.fixture(scope="session")
def image() -> str:
    """The OCI image, in buildah's own storage."""
    import container_builds

    return container_builds.image()


@pytest.fixture(scope="session")
def container(image: str) -> Iterator[str]:
    """A container of the OCI image, by its name."""
    made = subprocess.run(["buildah", "from", image], stdout=subprocess.PIPE, check=True)
    name = made.stdout.decode().strip()
    yield name
    subprocess.run(["buildah", "rm", name], stdout=subprocess.DEVNULL, check=True)


@pytest.fixture(params=["sif", "image"])
def runner(request: pytest.FixtureRequest):
    """Each of the images, to run programs in."""
    from container_runs import Oci, Sif

    if request.param == "sif":
        return Sif(request.getfixturevalue("sif"))
    return Oci(request.getfixturevalue("container"))


@pytest.fixture(scope="session")
def tomograms(sif: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two simulated tomograms, and one with the truth beside it, for everybody."""
    from container_runs import apptainer, shared_by_all

    folder = shared_by_all(tmp_path_factory.mktemp("simulated")) / "all"
    words = ["simulate", "--output", folder, "--number", 2, "--shape", 32, 64, 64]
    words += ["--membranes", 1, "--species", "ribosome=3", "proteasome=4", "rubisco=6"]
    done = apptainer("run", "--bind", folder.parent, sif, *words)
    assert done.returncode == 0, done.stderr
    return folder / "tomograms"
