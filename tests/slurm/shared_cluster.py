"""The one real Slurm of this machine, for tests of the engine and of the plugin."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

START = Path(__file__).resolve().parents[2] / "scripts" / "start_slurm.sh"
_LOCKS = Path(tempfile.gettempdir())


def cluster(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(START), *words], capture_output=True, text=True)


def absent(reason: str) -> NoReturn:
    """Skip a test for what there is not; on a CI server, where all should be, fail it."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def locked(name: str) -> Iterator[Path]:
    path = _LOCKS / f"cryosiam-slurm-tests-{name}"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


@contextmanager
def running_cluster() -> Iterator[None]:
    """Three nodes n1, n2, n3 with two pretended GPUs each; stopped by the last who used them."""
    if os.getuid() != 0 or shutil.which("dpkg-query") is None:
        absent("a Slurm for tests can be started on Debian by root only")
    with locked("users") as users:
        done = cluster("start")
        if done.returncode != 0:
            absent(f"no Slurm can be started here: {done.stderr.strip()[-300:]}")
        users.write_text(" ".join([*_others(users), str(os.getpid())]))
    try:
        yield
    finally:
        with locked("users") as users:
            users.write_text(" ".join(_others(users)))
            if not users.read_text():
                cluster("stop")


def await_idle_nodes(seconds: float = 60) -> None:
    """Wait until nothing is left of what others have done to the nodes, as far as that ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        words = ["sinfo", "--noheader", "--Node", "--format=%N", "--states=idle"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if len(set(done.stdout.split())) >= 3:
            return
        time.sleep(0.5)


def engines(folder: Path) -> Iterator[psutil.Process]:
    """The engines at work, on any node, for runs whose files are in a folder."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "run-task" in words and "python" in words[0] and str(folder) in words[-1]:
                yield process


def _others(path: Path) -> list[str]:
    """Processes of tests that still use the cluster."""
    pids = path.read_text().split()
    return [pid for pid in pids if int(pid) != os.getpid() and psutil.pid_exists(int(pid))]
