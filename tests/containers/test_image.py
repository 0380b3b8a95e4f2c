"""The Docker (OCI) image: what is in it. More is in test_runs.py."""

from __future__ import annotations

import json
import subprocess

import container_builds
import pytest

import cryosiam_plugin

pytestmark = pytest.mark.container


def test_it_says_what_it_is(image: str) -> None:
    found = subprocess.run(["buildah", "inspect", image], stdout=subprocess.PIPE, check=True)
    config = json.loads(found.stdout)["OCIv1"]["config"]
    assert config["User"] == "cryosiam"
    assert config["Entrypoint"] == ["cryosiam-engine"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "cryosiam-engine"
    assert labels["org.opencontainers.image.version"] == cryosiam_plugin.__version__
    assert labels["org.opencontainers.image.revision"] == container_builds.revision("image")
    assert labels["org.opencontainers.image.licenses"] == "GPL-3.0-or-later"
    assert labels["cryosiam.models"] == "published CryoSiam models 1.0 (.ckpt), .safetensors"
    assert labels["cryosiam.torch"] == "cpu"


def inside(container: str, *words: str, user: str = "") -> str:
    """What a command says in the container."""
    options = ["--isolation", "chroot", *(["--user", user] if user else [])]
    command = ["buildah", "run", *options, container, "--", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()


def test_it_knows_what_it_is(container: str) -> None:
    itself = json.loads(inside(container, "cat", "/etc/cryosiam-image.json"))
    assert itself["version"] == cryosiam_plugin.__version__
    assert itself["revision"] == container_builds.revision("image")
    assert inside(container, "cryosiam-engine", "--version").split()[-1] == itself["version"]


@pytest.mark.parametrize(("user", "expected"), [("", "1000"), ("0", "0"), ("12345", "12345")])
def test_it_helps_everybody(container: str, user: str, expected: str) -> None:
    """Its own user is not root; root and somebody without a name may use it all the same."""
    said = inside(container, "sh", "-c", "id -u && cryosiam-engine --help", user=user)
    number, *text = said.splitlines()
    assert number == expected
    assert any("semantic_predict" in line for line in text)


def test_its_own_user_is_at_home(container: str) -> None:
    assert inside(container, "pwd").strip() == "/home/cryosiam"
