"""A real Slurm on this machine, one test at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from cluster_runs import Cluster, cluster

_LOCKS = Path(tempfile.gettempdir())


@contextmanager
def _locked(name: str) -> Iterator[Path]:
    path = _LOCKS / f"cryosiam-slurm-tests-{name}"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def _others(path: Path) -> list[str]:
    """Processes of this test run that still use the cluster."""
    pids = path.read_text().split()
    return [pid for pid in pids if int(pid) != os.getpid() and psutil.pid_exists(int(pid))]


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """Three nodes n1, n2, n3 with two pretended GPUs each; stopped by the last who used them."""
    if os.getuid() != 0 or shutil.which("dpkg-query") is None:
        pytest.skip("a Slurm for tests can be started on Debian by root only")
    with _locked("users") as users:
        done = cluster("start")
        if done.returncode != 0:
            pytest.skip(f"no Slurm can be started here: {done.stderr.strip()[-300:]}")
        users.write_text(" ".join([*_others(users), str(os.getpid())]))
    yield
    with _locked("users") as users:
        users.write_text(" ".join(_others(users)))
        if not users.read_text():
            cluster("stop")


@pytest.fixture
def place(slurm: None) -> Iterator[Path]:
    """A folder that any user's job may write to, with a name that scripts are afraid of."""
    with _locked("turn"):  # a drill may stop the controller or a node under another's feet
        top = Path(tempfile.mkdtemp(prefix="slurm-"))
        top.chmod(0o755)
        folder = top / "it's 100%a"
        folder.mkdir()
        yield folder
        shutil.rmtree(top, ignore_errors=True)


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
