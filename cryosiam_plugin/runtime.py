"""Where the engine is: in a container or in an environment of its own."""

from __future__ import annotations

import enum
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryosiam_plugin.constants import (
    CRYOSIAM_APPTAINER,
    CRYOSIAM_ENGINE_PYTHON,
    CRYOSIAM_RUNTIME,
    CRYOSIAM_SIF,
    ENGINE_PACKAGE,
    RUNTIME_APPTAINER,
    RUNTIME_AUTO,
    RUNTIME_NATIVE,
    RUNTIMES,
)


class LaunchError(Exception):
    """The engine cannot be started as things are configured.

    Parameters
    ----------
    message
        What is wrong, naming the variable or file.
    remedy
        What to do about it.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.message = message
        self.remedy = remedy


class Runtime(enum.Enum):
    """Where the engine's Python is."""

    APPTAINER = RUNTIME_APPTAINER
    NATIVE = RUNTIME_NATIVE


@dataclass(frozen=True)
class LaunchSettings:
    """The plugin's variables that decide how the engine is started.

    Attributes
    ----------
    runtime
        ``auto``, ``apptainer`` or ``native``.
    engine_python
        Python interpreter of the native environment.
    apptainer
        The program, as a path or a name in PATH; empty looks for apptainer, then singularity.
    sif
        Container image; may be empty.
    models
        Folder with the published models.
    extra_binds
        Further folders for the container, as apptainer's ``--bind`` takes them.
    """

    runtime: str = RUNTIME_AUTO
    engine_python: str = ""
    apptainer: str = ""
    sif: str = ""
    models: str = ""
    extra_binds: tuple[str, ...] = ()


def choose_runtime(settings: LaunchSettings) -> Runtime:
    """Decide between the container and the native environment.

    ``auto`` takes the container where an image and a program to run it are there, else the
    native environment.

    Raises
    ------
    LaunchError
        When what is asked for is not there.
    """
    if settings.runtime not in RUNTIMES:
        raise LaunchError(
            f"{CRYOSIAM_RUNTIME} is '{settings.runtime}'.",
            remedy=f"Set it to one of {', '.join(RUNTIMES)} in Scipion's configuration.",
        )
    container, native = _container_problem(settings), _native_problem(settings)
    if settings.runtime == RUNTIME_APPTAINER:
        return _unless(container, Runtime.APPTAINER)
    if settings.runtime == RUNTIME_NATIVE:
        return _unless(native, Runtime.NATIVE)
    if container is None:
        return Runtime.APPTAINER
    # Somebody who set an image wants to hear what is wrong with it, not how to install another way.
    return _unless(container if native and settings.sif else native, Runtime.NATIVE)


def find_apptainer(settings: LaunchSettings) -> str | None:
    """The program that runs containers; None where there is none."""
    names = [settings.apptainer] if settings.apptainer else ["apptainer", "singularity"]
    return next(filter(None, map(shutil.which, names)), None)


def _unless(problem: LaunchError | None, runtime: Runtime) -> Runtime:
    if problem is not None:
        raise problem
    return runtime


def _native_problem(settings: LaunchSettings) -> LaunchError | None:
    install = (
        f"Install it with 'scipion3 installb {ENGINE_PACKAGE}' (or from Scipion's plugin manager), "
        f"or set {CRYOSIAM_ENGINE_PYTHON} to the Python of an environment that has it."
    )
    python = Path(settings.engine_python)
    if not settings.engine_python or not os.access(python, os.X_OK) or python.is_dir():
        where = settings.engine_python or f"{CRYOSIAM_ENGINE_PYTHON} is empty"
        return LaunchError(
            f"CryoSiam's engine is not installed: no Python at {where}.", remedy=install
        )
    # The program that pip puts beside it: looking for the module itself would mean to run Python.
    if not (python.parent / "cryosiam-engine").exists():
        return LaunchError(f"The environment of {python} has no cryosiam-engine.", remedy=install)
    return None


def _container_problem(settings: LaunchSettings) -> LaunchError | None:
    if not settings.sif:
        return LaunchError(
            f"{CRYOSIAM_SIF} is not set: there is no container image to run.",
            remedy=f"Set it to the image of CryoSiam's engine, or {CRYOSIAM_RUNTIME} to native.",
        )
    if not Path(settings.sif).exists():
        return LaunchError(
            f"The container image {settings.sif} does not exist.",
            remedy=f"Correct {CRYOSIAM_SIF}, or set {CRYOSIAM_RUNTIME} to native.",
        )
    if find_apptainer(settings) is None:
        named = f" ({CRYOSIAM_APPTAINER} is {settings.apptainer})" if settings.apptainer else ""
        return LaunchError(
            f"The program apptainer is not found{named}.",
            remedy=f"Install Apptainer, set {CRYOSIAM_APPTAINER} to it, or set "
            f"{CRYOSIAM_RUNTIME} to native.",
        )
    return None
