"""Simulated tomograms and small models, made by the engine itself: no download."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Sequence

from pyworkflow import Config

from cryosiam_plugin import Plugin
from cryosiam_plugin.launcher import engine_environment

# Discovering the plugins is what gives their variables values.
Config.getDomain().getProtocols()

#: Å; the simulator's own.
VOXEL_SIZE = 13.48
#: Names of the label values 1 to 3 of the small semantic model, as the tests call them.
CLASSES = {1: "membrane", 2: "ribosome", 3: "proteasome"}
#: Small enough for a CPU.
SHAPE = (32, 64, 64)

_WRITE_MODELS = """
import pathlib, sys, torch
from cryosiam_engine.networks import random_checkpoint
folder = pathlib.Path(sys.argv[1])
for name, task, classes, seed in (
    ("denoising", "denoising", 1, 1),
    ("lamella", "semantic", 1, 5),
    ("semantic", "semantic", 4, 6),
    ("instance", "instance", 1, 7),
):
    checkpoint = random_checkpoint(task, out_channels=classes, seed=seed)
    torch.save(checkpoint, folder / f"demo_{name}.ckpt")
"""


def data_folder() -> Path:
    """Where the data are kept between test classes; set CRYOSIAM_TEST_DATA for another place."""
    default = Path(tempfile.gettempdir()) / f"cryosiam-tests-{os.getuid()}"
    return Path(os.environ.get("CRYOSIAM_TEST_DATA", default))


def simulated_tomograms(number: int = 3, shape: Sequence[int] = SHAPE) -> Path:
    """A folder with ``TS_01.mrc``, ``TS_02.mrc``...

    Parameters
    ----------
    number
        How many.
    shape
        (z, y, x) in voxels.
    """
    folder = data_folder() / f"simulated-{number}-{'x'.join(map(str, shape))}"
    with _making(folder) as missing:
        if missing:
            size = [str(length) for length in shape]
            argv = ["simulate", "--output", str(folder), "--number", str(number), "--shape", *size]
            run_engine_python("-m", "cryosiam_engine.cli", *argv)
    return folder / "tomograms"


def small_models() -> Path:
    """A folder with ``demo_denoising.ckpt``, and ``lamella``, ``semantic`` and ``instance``.

    Untrained, in the published layout; their results mean nothing but are not empty.
    """
    folder = data_folder() / "models-with-instances"
    with _making(folder) as missing:
        if missing:
            run_engine_python("-c", _WRITE_MODELS, str(folder))
    return folder


def run_engine_python(*arguments: str) -> None:
    """Run something in the engine's environment, and wait for it.

    Raises
    ------
    subprocess.CalledProcessError
        When it fails.
    """
    python = Plugin.getLaunchSettings().engine_python
    command = [python, "-I", *arguments]
    subprocess.run(command, check=True, env=engine_environment(os.environ))  # noqa: S603


@contextmanager
def _making(folder: Path) -> Iterator[bool]:
    """Give True to the one who is to make the folder's content; others wait until it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = folder / ".ready"
        yield not ready.exists()
        ready.touch()
