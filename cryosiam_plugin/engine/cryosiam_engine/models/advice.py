"""What to do when a model is not here: commands to copy, with the real names in them."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path

from cryosiam_engine import origin
from cryosiam_engine.models.built_in import find_built_in
from cryosiam_engine.models.registry import PublishedModel, published_models

_PLAIN = re.compile(r"[\w./+@%=~-]+")


def download_command(names: Sequence[str], folder: Path) -> str:
    """The command that downloads models into a folder, for a shell.

    From inside of a container it is the one that starts the container: who reads it has a shell
    outside, where there is no ``cryosiam-engine``.

    Parameters
    ----------
    names
        Of published models.
    folder
        Where they are kept.
    """
    words = ["cryosiam-engine", "models", "download", *names, "--folder", str(folder)]
    # A folder that is not there cannot be shown to a container.
    is_made_first = _image() is not None and not folder.is_dir()
    made = f"{shlex.join(['mkdir', '-p', str(folder)])} && " if is_made_first else ""
    return made + _for_shell(words, folder)


def without_internet(models: Sequence[PublishedModel], folder: Path) -> str:
    """How to get models to this machine by way of another.

    Parameters
    ----------
    models
        Those that could not be downloaded.
    folder
        Where they belong on this machine.
    """
    files = [model.file for model in models]
    goal = f"{_account()}:{shlex.quote(str(folder))}/"
    verify = ["cryosiam-engine", "models", "verify", "--folder", str(folder)]
    names = [model.name for model in models]
    download = ["cryosiam-engine", "models", "download", *names, "--folder", "models"]
    fetch = [f"  curl --fail --location --remote-name {shlex.quote(m.url)}" for m in models]
    return "\n".join(
        [
            f"On a machine with internet, download {_counted(files)} (a browser will do as well):",
            *fetch,
            "copy to this machine:",
            f"  scp {shlex.join(files)} {goal}",
            "and compare what 'sha256sum' says there with what this says here:",
            f"  {_for_shell(verify, folder)}",
            "Better, where cryosiam-engine is installed there: it verifies the files, and their",
            "checksums come along, to be compared here:",
            f"  {shlex.join(download)}",
            f"  scp models/* {goal}",
        ]
    )


def for_missing(path: Path) -> str:
    """What to do about a model that a configuration names and that is not there.

    Parameters
    ----------
    path
        As the configuration gives it.

    Returns
    -------
    str
        The command that gets it, if it is a published model; else empty.
    """
    folder = path.absolute().parent
    for model in published_models():
        if path.name in (model.file, model.name):
            command = download_command([model.name], folder)
            if path.name == model.file:
                return f"Download it: {command}"
            return f"Give {path.with_name(model.file)} instead, and download it: {command}"
    built_in = find_built_in(path)
    if built_in is not None:
        return f"It is built in: 'cryosiam-engine models path {built_in.name}' tells its path."
    return ""


def _for_shell(words: Sequence[str], folder: Path) -> str:
    """A command of the engine as it is typed on this computer; it needs to see `folder`."""
    image = _image()
    if image is None:
        return shlex.join(words)
    # Singularity does not know Apptainer's variables.
    old = "SINGULARITY_CONTAINER" in os.environ and "APPTAINER_CONTAINER" not in os.environ
    program = "singularity" if old else "apptainer"
    return shlex.join([program, "exec", *_bind(str(folder)), image, *words])


def _image() -> str | None:
    """The image that this engine runs in; None outside of one.

    A container without the engine's own marks is somebody else's, around Scipion for instance.
    """
    if not (os.environ.get(origin.IMAGE) or origin.IMAGE_LABELS.is_file()):
        return None
    return (origin.container_image() or {}).get("path", "IMAGE")


def _bind(folder: str) -> list[str]:
    # --bind changes or splits other names; --mount takes them, in quotes.
    if _PLAIN.fullmatch(folder):
        return ["--bind", folder]
    quoted = folder.replace('"', '""')
    return ["--mount", f'type=bind,"source={quoted}","destination={quoted}"']


def _counted(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{len(files)} files"


def _account() -> str:
    """Who one is here, for a copy from elsewhere."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in some containers
        user = "USER"
    return f"{user}@{socket.gethostname()}"
