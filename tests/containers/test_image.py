"""The Docker (OCI) image, run by buildah: as its own user, as another one, with hostile paths."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_runs import denoising, shared_by_all, states

pytestmark = pytest.mark.container

HOSTILE = 'it\'s "a" test; $(touch pwned) Å 試料'


@pytest.fixture(scope="module")
def container(image: str) -> Iterator[str]:
    made = subprocess.run(["buildah", "from", image], stdout=subprocess.PIPE, check=True)
    name = made.stdout.decode().strip()
    yield name
    subprocess.run(["buildah", "rm", name], stdout=subprocess.DEVNULL, check=True)


def run(container: str, *words: object, volumes: tuple = (), user: str = "cryosiam"):
    binds = [word for volume in volumes for word in ("--volume", str(volume))]
    command = ["buildah", "run", "--isolation", "chroot", "--user", user, *binds, container, "--"]
    return subprocess.run(
        [*command, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )


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
    assert run(container, "id", "-u").stdout.strip() == "1000"
    assert "semantic_predict" in run(container, "cryosiam-engine", "--help").stdout


def test_it_works_for_a_user_that_it_does_not_know(container: str) -> None:
    """As with ``docker run --user``: no name, no home."""
    done = run(container, "sh", "/opt/cryosiam/share/self_test.sh", user="12345:12345")
    assert done.returncode == 0, done.stderr
    assert "The image works." in done.stdout


def test_hostile_paths_and_inputs_that_cannot_be_written(
    container: str, tomograms: Path, tmp_path: Path
) -> None:
    folder = shared_by_all(tmp_path) / HOSTILE
    folder.mkdir()
    folder.chmod(0o777)
    config = denoising(folder, Path("/inputs"), Path("/data") / HOSTILE / "out")
    words = ["denoise_predict", "--config_file", f"/data/{HOSTILE}/{config.name}"]
    volumes = (f"{tmp_path}:/data", f"{tomograms}:/inputs:ro")
    done = run(container, "cryosiam-engine", *words, "--device", "cpu", volumes=volumes)
    assert done.returncode == 0, done.stderr
    assert set(states(folder / "out").values()) == {"done"}
    assert not list(tmp_path.rglob("pwned"))
