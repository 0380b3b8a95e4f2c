"""The Docker (OCI) image as Apptainer converts it: `apptainer build x.sif docker-archive:x.tar`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import container_builds
import pytest
from container_runs import NOBODY, apptainer, shared_by_all

import cryosiam_plugin
from cryosiam_plugin.container_checks import engine_version

pytestmark = pytest.mark.container

#: The system's own user that nothing here is owned by.
ANOTHER = 1
LABELS = "org.opencontainers.image"


@pytest.fixture(scope="module")
def converted() -> Path:
    return container_builds.converted()


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A folder for temporary files that all users share, as a node's ``/tmp``."""
    folder = shared_by_all(tmp_path) / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def run(converted: Path, temporary: Path, *words: str, user: int, command: str = "exec"):
    """Without a home folder, and with the shared folder in the place of /tmp."""
    options = ["--no-mount", "home,cwd,tmp", "--bind", f"{temporary}:/tmp", "--pwd", "/"]
    return apptainer(command, *options, converted, *words, user=user, cwd="/")


def test_it_says_what_it_is(converted: Path, temporary: Path) -> None:
    said = apptainer("inspect", "--json", "--labels", converted).stdout
    labels = json.loads(said)["data"]["attributes"]["labels"]
    assert labels[f"{LABELS}.title"] == "cryosiam-engine"
    assert labels[f"{LABELS}.version"] == cryosiam_plugin.__version__
    assert labels[f"{LABELS}.revision"] == container_builds.revision("image")
    # So the plugin can tell one of another version.
    assert engine_version("apptainer", str(converted)) == cryosiam_plugin.__version__
    done = run(converted, temporary, "--version", user=NOBODY, command="run")
    assert done.stdout.split()[-1] == cryosiam_plugin.__version__, done.stderr


def test_it_works_for_one_user_after_the_other(converted: Path, temporary: Path) -> None:
    """Root, and two ordinary users, none of whom may write into what another has left."""
    for user in (0, NOBODY, ANOTHER):
        done = run(converted, temporary, "sh", "/opt/cryosiam/share/self_test.sh", user=user)
        assert done.returncode == 0, done.stderr
        assert "The image works." in done.stdout
    owners = {path.name: path.stat().st_uid for path in temporary.glob("cryosiam-*")}
    assert owners == {f"cryosiam-{user}": user for user in (0, NOBODY, ANOTHER)}


def test_a_cache_that_somebody_else_prepared_is_not_used(converted: Path, temporary: Path) -> None:
    """What is compiled into a cache is run again."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of somebody else's")
    trap = temporary / f"cryosiam-{NOBODY}"
    trap.mkdir()
    trap.chmod(0o777)
    os.chown(trap, ANOTHER, ANOTHER)
    done = run(converted, temporary, "doctor", "--device", "cpu", user=NOBODY, command="run")
    assert done.returncode == 0, done.stderr
    assert not list(trap.iterdir())
    others = [path for path in temporary.glob("cryosiam-*") if path != trap]
    assert [path.stat().st_uid for path in others] == [NOBODY]
