"""Workflows 1 and 2 without Scipion, as an ordinary user: every result is that of home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryosiam_engine.cli import main
from ordinary_user import everybodys_python
from user_workflow import UserWorkflow

# Of twelve tomograms both workflows take their time.
pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(3600)]

#: An Apptainer image of the engine, that the container's tests have built.
IMAGE = os.environ.get("CRYOSIAM_TEST_SIF", "")


def test_by_the_engine_of_an_environment(place: Path) -> None:
    workflow = UserWorkflow(place)
    workflow.run_there(everybodys_python(sys.executable, place))
    workflow.run_here(main)
    workflow.check()


@pytest.mark.container
@pytest.mark.skipif(not IMAGE, reason="CRYOSIAM_TEST_SIF names no image")
def test_by_the_engine_of_a_container(place: Path) -> None:
    """Both times: other versions of libraries round otherwise."""
    workflow = UserWorkflow(place)
    workflow.run_there(everybodys_python(sys.executable, place), "--container", IMAGE)
    models = Path(main.__code__.co_filename).parent
    words = ["apptainer", "exec", "--bind", f"{place},{models}", IMAGE, "cryosiam-engine"]

    def run(command: list[str]) -> int:
        return subprocess.run([*words, *command], check=False).returncode

    workflow.run_here(run)
    workflow.check()
