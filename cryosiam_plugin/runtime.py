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
    SIF_PACKAGE,
)
from cryosiam_plugin.container_checks import (
    CONTAINER_FOLDER,
    enclosing_container,
    engine_version,
    start_failure,
)
from cryosiam_plugin.container_installation import build_command
from cryosiam_plugin.launch_settings import LaunchError, LaunchSettings


class Runtime(enum.Enum):
    """Where the engine's Python is."""

    APPTAINER = RUNTIME_APPTAINER
    NATIVE = RUNTIME_NATIVE


@dataclass(frozen=True)
class Choice:
    """Where the engine is run, and what the user should know about that.

    Attributes
    ----------
    runtime
        The choice.
    remark
        Why a container that is set is not used; else empty.
    """

    runtime: Runtime
    remark: str = ""


def choose_runtime(settings: LaunchSettings) -> Runtime:
    """Decide between the container and the native environment by what is there; nothing is run.

    ``auto`` takes the container where an image and a program to run it are there and this is not
    a container itself, else the native environment.

    Raises
    ------
    LaunchError
        When what is asked for is not there.
    """
    return _choice(settings).runtime


def try_runtime(settings: LaunchSettings) -> Choice:
    """Decide as :func:`choose_runtime`; where there is a choice, the container must also start.

    Raises
    ------
    LaunchError
        When what is asked for is not there, or the image has the engine of another version.
    """
    choice = _choice(settings)
    if choice.runtime is not Runtime.APPTAINER:
        return choice
    program = find_apptainer(settings) or settings.apptainer
    problem = _version_problem(settings, program)
    if settings.runtime != RUNTIME_AUTO or _native_problem(settings) is not None:
        # There is no other: what else is wrong with it is said when it is run.
        return Choice(_unless(problem, Runtime.APPTAINER))
    remark = problem.message if problem is not None else ""
    failure = "" if remark else start_failure(program, settings.sif)
    if failure:
        remark = f"The container image {settings.sif} does not start here ({failure})."
    if not remark:
        return choice
    return Choice(Runtime.NATIVE, f"{remark} The engine runs in its own environment instead.")


def find_apptainer(settings: LaunchSettings) -> str | None:
    """The program that runs containers; None where there is none."""
    names = [settings.apptainer] if settings.apptainer else ["apptainer", "singularity"]
    return next(filter(None, map(shutil.which, names)), None)


def _choice(settings: LaunchSettings) -> Choice:
    if settings.runtime not in RUNTIMES:
        raise LaunchError(
            f"{CRYOSIAM_RUNTIME} is '{settings.runtime}'.",
            remedy=f"Set it to one of {', '.join(RUNTIMES)} in Scipion's configuration.",
        )
    container, native = _container_problem(settings), _native_problem(settings)
    if settings.runtime == RUNTIME_APPTAINER:
        return Choice(_unless(container, Runtime.APPTAINER))
    if settings.runtime == RUNTIME_NATIVE:
        return Choice(_unless(native, Runtime.NATIVE))
    container = _nesting_problem() or container
    if container is None:
        return Choice(Runtime.APPTAINER)
    if native is not None:
        raise _both(native, container)
    # Who made an image wonders why it is not used; who has none need not be told.
    has_image = bool(settings.sif) and _is_image(Path(settings.sif))
    remark = f"{container.message} The engine runs in its own environment." if has_image else ""
    return Choice(Runtime.NATIVE, remark)


def _unless(problem: LaunchError | None, runtime: Runtime) -> Runtime:
    if problem is not None:
        raise problem
    return runtime


def _both(native: LaunchError, container: LaunchError) -> LaunchError:
    """What to say where neither the environment nor the container is complete."""
    return LaunchError(
        f"{native.message} {container.message}",
        remedy=f"{native.remedy} Or, for a container: {container.remedy}",
    )


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
            f"{CRYOSIAM_SIF} is empty: there is no container image to run.",
            remedy=f"{_how_to_build(settings)}.",
        )
    if not _is_image(Path(settings.sif)):
        return LaunchError(
            f"The container image {settings.sif} does not exist.",
            remedy=f"{_how_to_build(settings)}, or {CRYOSIAM_RUNTIME} to native.",
        )
    if find_apptainer(settings) is None:
        named = f" ({CRYOSIAM_APPTAINER} is {settings.apptainer})" if settings.apptainer else ""
        return LaunchError(
            f"The program apptainer is not found{named}.",
            remedy=f"Install Apptainer, set {CRYOSIAM_APPTAINER} to it, or set "
            f"{CRYOSIAM_RUNTIME} to native.",
        )
    return None


def _how_to_build(settings: LaunchSettings) -> str:
    """What to do for an image where one is looked for; ends with what a variable can be set to."""
    install = f"'scipion3 installb {SIF_PACKAGE}'"
    elsewhere = f"set {CRYOSIAM_SIF} to one that was built elsewhere"
    if settings.sif in ("", settings.installed_sif):
        return f"Build the image with {install}, or {elsewhere}"
    return (
        f"Build it with\n    {build_command(settings.sif)}\n"
        f"or remove {CRYOSIAM_SIF} from Scipion's configuration, where {install} builds it "
        f"(if it is not there yet); or {elsewhere}"
    )


def _version_problem(settings: LaunchSettings, program: str) -> LaunchError | None:
    found = engine_version(program, settings.sif) if settings.version else ""
    if found in ("", settings.version):
        return None
    return LaunchError(
        f"The container image {settings.sif} has version {found} of the engine; this plugin works "
        f"with {settings.version}.",
        remedy=f"{_how_to_build(settings)}, or {CRYOSIAM_RUNTIME} to native.",
    )


def _is_image(path: Path) -> bool:
    """Whether this is a file, or an image's content in a folder (a sandbox)."""
    return path.is_file() or (path / CONTAINER_FOLDER.name).is_dir()


def _nesting_problem() -> LaunchError | None:
    around = enclosing_container()
    if not around:
        return None
    return LaunchError(
        f"Scipion itself runs in a container ({around}), and another one rarely starts inside.",
        remedy=f"Set {CRYOSIAM_RUNTIME} to apptainer to try it all the same.",
    )
