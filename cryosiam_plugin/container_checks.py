"""What this computer says about containers: whether this is one, and whether one starts."""

from __future__ import annotations

import json
import os
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Mapping

#: Set by Apptainer and Singularity in what they run.
CONTAINER_VARIABLES = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
#: A folder of every image of theirs.
CONTAINER_FOLDER = Path("/.singularity.d")
#: What labels of an image begin with, and what ours are called there.
LABELS, IMAGE_TITLE = "org.opencontainers.image", "cryosiam-engine"
#: Seconds after which a container that shall only start counts as one that does not.
TRIAL_SECONDS = 120


def enclosing_container(
    environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> str:
    """Name the Apptainer image that this very process runs in; empty outside of one.

    Parameters
    ----------
    environ
        Variables; None takes this process's.
    folder
        What every image has; None looks for :data:`CONTAINER_FOLDER`.
    """
    variables = os.environ if environ is None else environ
    image = next(filter(None, map(variables.get, CONTAINER_VARIABLES)), "")
    mark = CONTAINER_FOLDER if folder is None else folder
    return image or (str(mark) if mark.is_dir() else "")


@lru_cache(maxsize=8)
def start_failure(program: str, sif: str) -> str:
    """Say why a container does not start here; empty when it does. Tried once per process.

    Parameters
    ----------
    program
        Apptainer.
    sif
        The image.
    """
    command = [program, "exec", sif, "/bin/true"]
    try:
        # A list of words without a shell, from the administrator's own settings.
        done = subprocess.run(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TRIAL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return "" if done.returncode == 0 else (lines or [f"exit code {done.returncode}"])[-1]


def engine_version(program: str, sif: str) -> str:
    """Give the version of the engine in an image, by its labels; empty where it is not known.

    Parameters
    ----------
    program
        Apptainer.
    sif
        The image; it is asked once, as long as it stays as it is.
    """
    try:
        return _labelled_version(program, sif, Path(sif).stat().st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=8)
def _labelled_version(program: str, sif: str, mtime_ns: int) -> str:
    command = [program, "inspect", "--json", "--labels", sif]
    try:
        said = subprocess.run(  # noqa: S603 - as above
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TRIAL_SECONDS,
        ).stdout
        labels = json.loads(said)["data"]["attributes"]["labels"]
        # An image of another kind may have the version of its base there.
        ours = labels[f"{LABELS}.title"] == IMAGE_TITLE
        return str(labels[f"{LABELS}.version"]) if ours else ""
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return ""


def has_nvidia_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether this computer has an NVIDIA GPU with a driver that runs.

    Parameters
    ----------
    devices
        The folder of devices; its ``dxg`` is the GPU of a Linux inside Windows.
    """
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()
