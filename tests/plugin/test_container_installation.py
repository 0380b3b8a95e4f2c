from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import cryosiam_plugin
from cryosiam_plugin import Plugin, constants
from cryosiam_plugin.container_installation import BUILD_SCRIPT, IMAGE, image_commands

CONTAINERS = BUILD_SCRIPT.parent
PROJECT = CONTAINERS.parent / "engine" / "pyproject.toml"

# Writes down its arguments; builds what its last argument but one names.
APPTAINER = """#!/bin/bash
if [ "$2" = --help ]; then echo --mksquashfs-args; exit; fi
printf '%s\\n' "$@" >"$ASKED"
[ -z "$BROKEN" ] || exit 255
for last; do image=$before before=$last; done
echo image >"$image"
"""


@pytest.fixture
def build(tmp_path: Path):
    """Run the recipe in a package's folder with an apptainer that only writes down its options."""
    tools, package, elsewhere = (tmp_path / name for name in ("tools", "pack age", "else where"))
    for folder in (tools, package):
        folder.mkdir()
    # As installed from the wheel: not a checkout.
    shutil.copytree(CONTAINERS, elsewhere / "containers")
    shutil.copy(cryosiam_plugin.__file__, elsewhere)
    (tools / "apptainer").write_text(APPTAINER)
    (tools / "apptainer").chmod(0o755)
    asked = tmp_path / "asked"

    def run(**variables: str) -> subprocess.CompletedProcess:
        path = f"{tools}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "ASKED": str(asked), **variables}
        command = ["bash", str(elsewhere / "containers" / BUILD_SCRIPT.name), IMAGE]
        done = subprocess.run(command, cwd=package, env=environment, capture_output=True)
        done.asked = asked.read_text().splitlines() if asked.exists() else []
        done.package = package
        return done

    return run


def test_the_recipe_is_the_script_and_its_target_the_image() -> None:
    [(command, targets)] = image_commands()
    assert str(BUILD_SCRIPT) in command
    assert targets == [IMAGE]
    packages = {}

    class Recorder:
        def addPackage(self, name: str, **options: object) -> None:
            packages[name] = options

    Plugin.defineBinaries(Recorder())
    package = packages[constants.SIF_PACKAGE]
    assert package["commands"] == image_commands()
    assert not package["default"], "gigabytes that not everybody wants"


def test_the_image_gets_its_name_and_its_checksum_when_it_is_built(build) -> None:
    done = build()
    assert done.returncode == 0, done.stderr
    image = done.package / IMAGE
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    assert image.with_name(f"{IMAGE}.sha256").read_text() == f"{digest}  {IMAGE}\n"
    assert {path.name for path in done.package.iterdir()} == {IMAGE, f"{IMAGE}.sha256"}
    assert done.asked[0] == "build"
    assert done.asked[-2:] == [f"{image}.part", "containers/apptainer.def"]
    assert f"REVISION=distribution {cryosiam_plugin.__version__}" in done.asked


def test_options_of_the_user_are_quoted_as_in_a_shell(build) -> None:
    options = "--build-arg TORCH=cpu --build-arg 'PIP_OPTIONS=--no-index --find-links /a b'"
    done = build(CRYOSIAM_SIF_OPTIONS=options)
    assert "TORCH=cpu" in done.asked
    assert "PIP_OPTIONS=--no-index --find-links /a b" in done.asked


def test_a_failed_build_leaves_no_image(build) -> None:
    done = build(BROKEN="yes")
    assert done.returncode != 0
    assert list(done.package.iterdir()) == []


def test_without_apptainer_the_remedy_is_told(build, tmp_path: Path) -> None:
    tools = tmp_path / "few"
    tools.mkdir()
    for name in ("bash", "cat", "awk", "realpath", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    done = build(PATH=str(tools))
    assert done.returncode != 0
    assert b"CRYOSIAM_APPTAINER" in done.stderr


# ------------------------------------------------------------------ the pinned packages


def pins(kind: str) -> dict[str, str]:
    """Versions by normalised name; every line has the checksum of one file."""
    found = {}
    for line in (CONTAINERS / f"requirements-{kind}.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            match = re.fullmatch(r"(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
            assert match, line
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_everything_that_the_engine_needs_is_pinned(kind: str) -> None:
    """A new requirement needs the script that makes the files to be run again."""
    declared = re.search(r"^dependencies = \[(.*?)^\]", PROJECT.read_text("utf-8"), re.M | re.S)
    pinned = pins(kind)
    for text in re.findall(r'"([^"]+)"', declared[1]):
        requirement = Requirement(text)
        version = pinned[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(version.partition("+")[0]), text
    # The engine is built with it, offline.
    assert "setuptools" in pinned


def test_both_images_have_the_same_versions() -> None:
    cuda, cpu = pins("cuda"), pins("cpu")
    assert f"torch=={cuda.pop('torch')}" == constants.TORCH_REQUIREMENT
    assert f"torch=={cpu.pop('torch').partition('+')[0]}" == constants.TORCH_REQUIREMENT
    assert cpu.items() <= cuda.items()
    assert {name for name in cuda if name not in cpu} >= {"triton", "nvidia-cudnn-cu13"}
