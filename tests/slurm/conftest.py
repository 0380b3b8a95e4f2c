"""A real Slurm on this machine, one test at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster_runs import Cluster
from shared_cluster import await_idle_nodes, locked, running_cluster


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """Three nodes n1, n2, n3 with two pretended GPUs each; stopped by the last who used them."""
    with running_cluster():
        yield


@contextmanager
def a_place() -> Iterator[Path]:
    """A folder that any user's job may write to, with a name that scripts are afraid of."""
    with locked("turn"):  # a drill may stop the controller or a node under another's feet
        await_idle_nodes()
        top = Path(tempfile.mkdtemp(prefix="slurm-"))
        top.chmod(0o755)
        folder = top / "it's 100%a"
        folder.mkdir()
        yield folder
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def place(slurm: None) -> Iterator[Path]:
    """A folder of one test, which has the cluster for itself meanwhile."""
    with a_place() as folder:
        yield folder


@pytest.fixture(scope="module")
def place_of_module(slurm: None) -> Iterator[Path]:
    """A folder of all tests of a module; only for those that need no `place`."""
    with a_place() as folder:
        yield folder


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Cluster]]:
    """Start a run: ``{"TS_1": "sleep 1"}`` says what the stand-in does to each tomogram."""
    runs: list[Cluster] = []

    def make(deeds: dict[str, str], **journal: object) -> Cluster:
        runs.append(Cluster(place, deeds, **journal))
        return runs[-1]

    yield make
    for run in runs:
        run.run.cancel()
