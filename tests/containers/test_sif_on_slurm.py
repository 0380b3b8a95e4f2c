"""The Apptainer image in the jobs of an ordinary user: the same results as without Slurm."""

from __future__ import annotations

import json
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


@pytest.fixture
def disks() -> Iterator[list[Path]]:
    """Two folders outside of everything that Apptainer shows to a container by itself."""
    try:
        folders = [Path(tempfile.mkdtemp(prefix="cryosiam ^ ", dir="/srv")) for _ in range(2)]
    except OSError as error:
        pytest.skip(f"no folder for everybody outside of /tmp: {error}")
    for folder in folders:
        folder.chmod(0o755)
    yield folders
    for folder in folders:
        shutil.rmtree(folder)


def test_tomograms_as_without_slurm(
    sif: Path, engine_python: str, place: Path, disks: list[Path]
) -> None:
    """One of them by a link to a link, each on another disk; the image is named by its digest."""
    stems = write_tomograms(place)
    link, real = (disk / "TS_00.mrc" for disk in disks)
    shutil.move(place / "data" / "TS_00.mrc", real)
    link.symlink_to(real)
    (place / "data" / "TS_00.mrc").symlink_to(link)
    with GpuWatch(place) as watch:
        done = submit(place, everybodys_python(engine_python, place), "--container", str(sif))
    words = ["env", "OMP_NUM_THREADS=1", "apptainer", "exec", "--bind", f"{place},{MODEL.parent}"]
    words += [word for disk in disks for word in ("--mount", f"type=bind,src={disk},dst={disk}")]
    words += [str(sif), "cryosiam-engine", "denoise_predict"]
    assert finished([*words, "--config_file", str(place / "here.yaml")]).returncode == 1
    check_results(place, stems, done)
    watch.check(N_TOMOGRAMS)
    recorded = sif.with_name(f"{sif.name}.sha256").read_text().split()[0]
    for stem in stems:
        status = json.loads((place / "there" / "status" / f"{stem}.json").read_text("utf-8"))
        image = status["origin"]["image"]
        assert (image["path"], image["sha256"]) == (str(sif.resolve()), recorded)
