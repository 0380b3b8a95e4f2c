"""The Apptainer image in the jobs of an ordinary user: the same results as without Slurm."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Iterator

import pytest
from container_runs import finished

sys.path.append(str(Path(__file__).parents[1] / "slurm"))
from ordinary_user import (
    MODEL,
    N_TOMOGRAMS,
    REPOSITORY,
    GpuWatch,
    check_results,
    everybodys_python,
    submit,
    write_tomograms,
)
from shared_cluster import locked, running_cluster

pytestmark = [pytest.mark.container, pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture
def engine_python() -> str:
    """The Python from which an ordinary user submits."""
    python = Path(os.environ.get("CRYOSIAM_ENGINE_PYTHON", REPOSITORY / ".venv/bin/python"))
    if not (python.parent / "cryosiam-engine").exists():
        pytest.skip("no engine: set CRYOSIAM_ENGINE_PYTHON to the Python that has it")
    return str(python)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for jobs of any user, while nobody disturbs the cluster."""
    with running_cluster(), locked("turn"):
        folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        folder.chmod(0o755)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


def test_tomograms_as_without_slurm(sif: Path, engine_python: str, place: Path) -> None:
    stems = write_tomograms(place)
    with GpuWatch(place) as watch:
        done = submit(place, everybodys_python(engine_python, place), "--container", str(sif))
    words = ["env", "OMP_NUM_THREADS=1", "apptainer", "exec", "--bind", f"{place},{MODEL.parent}"]
    words += [str(sif), "cryosiam-engine", "denoise_predict"]
    assert finished([*words, "--config_file", str(place / "here.yaml")]).returncode == 1
    check_results(place, stems, done)
    watch.check(N_TOMOGRAMS)
