"""Scipion for the tests: a home of their own, set before anything imports pyworkflow."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HOSTS = "[localhost]\nPARALLEL_COMMAND = mpirun -np %%_(JOB_NODES)d %%_(COMMAND)s\n"

# Their assertions tell what was compared, as those of the tests themselves.
pytest.register_assert_rewrite("scipion_projects", "workflow_checks")

HAS_SCIPION = importlib.util.find_spec("pyworkflow") is not None
# The engine's own environment has no Scipion: there the engine's tests run, these do not.
collect_ignore_glob = [] if HAS_SCIPION else ["test_*.py"]


def prepare_scipion(folder: Path) -> None:
    """Set what pyworkflow reads at its first import; what is set already stays."""
    home = Path(os.environ.setdefault("SCIPION_HOME", str(folder / "home")))
    os.environ.setdefault("SCIPION_USER_DATA", str(folder / "userdata"))
    os.environ.setdefault("SCIPION_DOMAIN", "pwem")
    os.environ.setdefault("SCIPION_PYTHON", sys.executable)
    os.environ.setdefault("SCIPION_NOTIFY", "False")
    hosts = home / "config" / "hosts.conf"
    if not hosts.exists():
        hosts.parent.mkdir(parents=True, exist_ok=True)
        hosts.write_text(HOSTS)


if HAS_SCIPION:
    prepare_scipion(REPOSITORY / ".scipion")


@pytest.fixture(scope="session")
def domain():
    """Scipion with all of its plugins."""
    from pyworkflow import Config

    domain = Config.getDomain()
    domain.getPlugins()
    domain.getProtocols()
    return domain


@pytest.fixture(scope="session")
def engine_python() -> str:
    """The Python of an environment that has the engine."""
    for candidate in (os.environ.get("CRYOSIAM_ENGINE_PYTHON"), REPOSITORY / ".venv/bin/python"):
        if candidate and (Path(candidate).parent / "cryosiam-engine").exists():
            return str(candidate)
    return pytest.skip("no engine: set CRYOSIAM_ENGINE_PYTHON to the Python that has it")
