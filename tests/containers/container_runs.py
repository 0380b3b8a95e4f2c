"""How the tests run something in an image, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryosiam_plugin.slurm_core.image_digest import image_variables

#: An ordinary user of this computer.
NOBODY = 65534
#: As bad as a folder's name gets.
HOSTILE = 'it\'s "a" test; $(touch pwned) `touch pwned`, 100% Å 試料'
#: The model that comes with the engine, by its path in the image.
MODEL = (
    "/opt/cryosiam/lib/python3.11/site-packages/cryosiam_engine/demo_models/"
    "demo_denoising.safetensors"
)


@dataclass(frozen=True)
class Where:
    """For whom and on what a program is run in an image.

    Attributes
    ----------
    user
        Who runs it.
    binds, read_only
        Folders that are seen inside, under their own names.
    folder
        Where it is run.
    home
        Stands for a home folder that is there and cannot be written, as on some compute nodes.
    """

    user: int = NOBODY
    binds: Sequence[Path] = ()
    read_only: Sequence[Path] = ()
    folder: Path = Path("/")
    home: Path | None = None

    def bind_options(self, option: str) -> list[str]:
        """What makes the folders seen."""
        hidden = [*self.read_only, *([self.home] if self.home else [])]
        values = [f"{path}:{path}" for path in self.binds]
        values += [f"{path}:{path}:ro" for path in hidden]
        return [word for value in values for word in (option, value)]


class Runner:
    """An image that programs are run in."""

    def words(self, *command: object, **where: Any) -> list[str]:
        """The words that run a command in it; `where` is as in :class:`Where`."""
        return self._start(Where(**where)) + [str(word) for word in command]

    def run(self, *command: object, **where: Any) -> subprocess.CompletedProcess:
        """Run a command in it; its output is text."""
        return finished(self.words(*command, **where), cwd="/")

    def stop(self, process: subprocess.Popen) -> None:
        """Ask what runs in it to end, as a queue or a user does."""
        process.send_signal(signal.SIGTERM)

    def _start(self, where: Where) -> list[str]:
        raise NotImplementedError


@dataclass(frozen=True)
class Sif(Runner):
    """The Apptainer image, by its file."""

    image: Path

    def _start(self, where: Where) -> list[str]:
        words = ["env", "OMP_NUM_THREADS=1", *([f"HOME={where.home}"] if where.home else [])]
        words += [f"{name}={value}" for name, value in image_variables(str(self.image)).items()]
        words += ["apptainer", "exec", *(["--no-mount", "home,cwd"] if where.home else [])]
        words += [*where.bind_options("--bind"), "--pwd", str(where.folder), str(self.image)]
        return for_user(where.user, words)


@dataclass(frozen=True)
class Oci(Runner):
    """The Docker (OCI) image, by the name of buildah's container of it."""

    container: str

    def _start(self, where: Where) -> list[str]:
        words = ["buildah", "run", "--isolation", "chroot", "--user", f"{where.user}:{where.user}"]
        words += ["--env", "OMP_NUM_THREADS=1"]
        words += ["--env", f"HOME={where.home}"] if where.home else []
        words += [*where.bind_options("--volume"), "--workingdir", str(where.folder)]
        return [*words, self.container, "--"]

    def stop(self, process: subprocess.Popen) -> None:
        """Buildah, which builds, would kill it: the program gets the signal, as from Docker."""
        psutil.Process(process.pid).children(recursive=True)[-1].send_signal(signal.SIGTERM)


def apptainer(*words: object, user: int = 0, **options: Any) -> subprocess.CompletedProcess:
    """Run apptainer; its output is text."""
    return as_user(user, ["apptainer", *map(str, words)], **options)


def as_user(user: int, words: list[str], **options: Any) -> subprocess.CompletedProcess:
    """Run a program as root (0) or, where we are root, as another user."""
    options.setdefault("env", {**os.environ, "OMP_NUM_THREADS": "1"})
    return finished(for_user(user, words), **options)


def finished(words: list[str], **options: Any) -> subprocess.CompletedProcess:
    """Run a program to its end; its output is text."""
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=1800,
        **options,
    )


def for_user(user: int, words: list[str]) -> list[str]:
    """The words that run a program as a user."""
    if user == os.geteuid():
        return words
    if os.geteuid() != 0:
        pytest.skip("only root can run programs as somebody else")
    return ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *words]


def shared_by_all(folder: Path) -> Path:
    """Let every user into a folder of pytest's, which are private."""
    for parent in [folder, *folder.parents]:
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    return folder


def denoising(folder: Path, tomograms: Path, results: Path) -> Path:
    """A configuration that denoises with the model that is in the image."""
    config = folder / "denoising.yaml"
    # JSON is YAML, and quotes whatever a path may have in it.
    values = {"data_folder": tomograms, "prediction_folder": results, "trained_model": MODEL}
    config.write_text(json.dumps({k: str(v) for k, v in values.items()}, ensure_ascii=False))
    return config


def states(results: Path) -> dict[str, str]:
    """What the status files say, by tomogram."""
    files = (results / "status").glob("*.json")
    return {path.stem: json.loads(path.read_text("utf-8"))["state"] for path in files}
