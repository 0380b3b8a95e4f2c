"""The images that the tests look at, and what these compute on."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

pytest.register_assert_rewrite("container_builds", "container_runs")

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
def tomograms(sif: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three simulated tomograms that everybody may read."""
    from container_runs import apptainer, shared_by_all

    folder = shared_by_all(tmp_path_factory.mktemp("simulated"))
    words = ["simulate", "--output", folder, "--number", 3, "--shape", 32, 64, 64]
    done = apptainer("run", "--bind", folder, sif, *words, "--membranes", 1, "--species")
    assert done.returncode == 0, done.stderr
    return folder / "tomograms"
