"""The Docker (OCI) image: what is in it. More is in test_runs.py."""

from __future__ import annotations

import json
import subprocess

import pytest

pytestmark = pytest.mark.container


def test_it_says_what_it_is(image: str) -> None:
    found = subprocess.run(["buildah", "inspect", image], stdout=subprocess.PIPE, check=True)
    config = json.loads(found.stdout)["OCIv1"]["config"]
    assert config["User"] == "cryosiam"
    assert config["Entrypoint"] == ["cryosiam-engine"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"]
    assert labels["org.opencontainers.image.revision"]
    assert "CryoSiam models" in labels["cryosiam.models"]


def test_its_user_is_not_root(container: str) -> None:
    words = ["buildah", "run", "--isolation", "chroot", container, "--"]
    script = "id -u && pwd && cryosiam-engine --help"
    said = subprocess.run([*words, "sh", "-c", script], stdout=subprocess.PIPE, check=True).stdout
    user, folder, *text = said.decode().splitlines()
    assert (user, folder) == ("1000", "/home/cryosiam")
    assert any("semantic_predict" in line for line in text)
