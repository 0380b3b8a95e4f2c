"""What to do when a model is not here: commands to copy, with the real names in them."""

from __future__ import annotations

import getpass
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path

from cryosiam_engine.models.built_in import find_built_in
from cryosiam_engine.models.registry import PublishedModel, published_models


def download_command(names: Sequence[str], folder: Path) -> str:
    """The command that downloads models into a folder, for a shell.

    Parameters
    ----------
    names
        Of published models.
    folder
        Where they are kept.
    """
    return shlex.join(["cryosiam-engine", "models", "download", *names, "--folder", str(folder)])


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
    fetch = [f"  curl --fail --location --remote-name {shlex.quote(m.url)}" for m in models]
    return "\n".join(
        [
            f"On a machine with internet, download {_counted(files)} (a browser will do as well):",
            *fetch,
            "copy to this machine:",
            f"  scp {shlex.join(files)} {goal}",
            "and compare what 'sha256sum' says there with what this says here:",
            f"  {shlex.join(['cryosiam-engine', 'models', 'verify', '--folder', str(folder)])}",
            "Better, where cryosiam-engine is installed there: it verifies the files, and their",
            "checksums come along, to be compared here:",
            f"  {download_command([model.name for model in models], Path('models'))}",
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


def _counted(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{len(files)} files"


def _account() -> str:
    """Who one is here, for a copy from elsewhere."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in some containers
        user = "USER"
    return f"{user}@{socket.gethostname()}"
