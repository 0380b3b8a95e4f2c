"""How the engine is started: the only place where its command line is made.

Everything here is a function of its arguments, the files on disk and, for the defaults, this
process's environment: no Scipion, so that a command line can be tested without a project.
"""

from __future__ import annotations

import logging
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from cryosiam_plugin.constants import CRYOSIAM_MODELS
from cryosiam_plugin.container_checks import has_nvidia_gpu
from cryosiam_plugin.launch_settings import LaunchError, LaunchSettings
from cryosiam_plugin.runtime import Runtime, choose_runtime, find_apptainer, try_runtime
from cryosiam_plugin.slurm_core import BindError, bind_options, bind_paths, image_variables

__all__ = [
    "EngineCommand",
    "LaunchError",
    "LaunchSettings",
    "Runtime",
    "bind_paths",
    "choose_runtime",
    "engine_command",
    "engine_environment",
    "find_apptainer",
]

logger = logging.getLogger(__name__)

#: What Scipion's Python, conda and site set-ups leave in the environment and the engine must not
#: see: its own Python would load foreign modules and, worse, a foreign cuDNN.
HIDDEN = (
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "CONDA_PREFIX",
    "MPLBACKEND",
)
#: The host's folders for temporary files are not there inside a container; its own is.
HIDDEN_IN_CONTAINER = (*HIDDEN, "TMPDIR", "TMP", "TEMP")

#: Where programs keep what they would otherwise write below the home folder.
CACHE_VARIABLES = (
    "CRYOSIAM_CACHE",
    "XDG_CACHE_HOME",
    "MPLCONFIGDIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "NUMBA_CACHE_DIR",
    "CUDA_CACHE_PATH",
)

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class EngineCommand:
    """A command for one line of /bin/sh, complete in itself.

    Attributes
    ----------
    program, arguments
        The line's two parts, as Scipion's ``runJob`` takes them; quoted.
    environment
        The environment to start it in. The line sets what matters by itself, so that it does the
        same in a terminal and in a queue's job, which have environments of their own.
    """

    program: str
    arguments: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def shell_line(self) -> str:
        """The whole line, for the record and to be repeated in a terminal."""
        return f"{self.program} {self.arguments}".strip()


def engine_command(
    settings: LaunchSettings,
    argv: Sequence[str],
    *,
    work_folder: Path,
    inputs: Iterable[Path] = (),
    use_gpu: bool = True,
    gpu_ids: str | None = None,
    scheduler_owns_gpu: bool = False,
) -> EngineCommand:
    """Make the command that runs the engine once.

    Parameters
    ----------
    settings
        How the engine is installed.
    argv
        Arguments of ``cryosiam-engine``: the command and its options.
    work_folder
        The run's folder: relative paths start where the command is run, but results and caches
        go in here.
    inputs
        Every file and folder that is read: the tomograms, masks and the model.
    use_gpu
        Whether a GPU is used at all. The engine's own ``--device`` is part of `argv`.
    gpu_ids
        GPUs to use, as ``0`` or ``0,1``; None leaves the choice to the engine.
    scheduler_owns_gpu
        Under a queue: the GPUs that the job was given are not touched.

    Raises
    ------
    LaunchError
        As :func:`try_runtime`; when the container cannot be shown what it needs.
    """
    choice = try_runtime(settings)
    if choice.remark:
        logger.info("%s", choice.remark)
    work_folder = Path(work_folder).absolute()
    settled = _settled_variables(settings, work_folder, use_gpu, gpu_ids, scheduler_owns_gpu)
    hidden: tuple[str, ...] = HIDDEN
    if choice.runtime is Runtime.NATIVE:
        # -I: neither the user's site-packages nor the folder it is started in.
        start = [settings.engine_python, "-I", "-m", "cryosiam_engine.cli"]
    else:
        hidden = HIDDEN_IN_CONTAINER
        settled["PYTHONNOUSERSITE"] = "1"
        settled.update(image_variables(settings.sif))
        seen = [work_folder, work_folder / "tmp", *inputs, Path(settings.models)]
        seen += map(Path, _cache_folders(settled))
        # The GPU of a queue's job is on another computer. One that is asked for and not there is
        # an error of the engine, as it is without a container.
        gpu_support = use_gpu and (scheduler_owns_gpu or has_nvidia_gpu())
        start = _container_start(settings, seen, gpu_support)
    words = [word for name in hidden for word in ("-u", name)]
    words += [f"{name}={value}" for name, value in settled.items()]
    words += [*start, *argv]
    environment = engine_environment(os.environ, hidden)
    environment.update(settled)
    return EngineCommand("env", " ".join(shlex.quote(word) for word in words), environment)


def engine_environment(
    environ: Mapping[str, str], hidden: Sequence[str] = HIDDEN
) -> dict[str, str]:
    """Copy an environment without what belongs to Scipion's own Python.

    Parameters
    ----------
    environ
        Such as ``os.environ``.
    hidden
        Names to leave out, besides all of conda's and of virtual environments.
    """
    return {
        name: value
        for name, value in environ.items()
        if name not in hidden and not name.startswith(("CONDA_", "_CE_", "VIRTUAL_ENV"))
    }


def _settled_variables(
    settings: LaunchSettings,
    work_folder: Path,
    use_gpu: bool,
    gpu_ids: str | None,
    scheduler_owns_gpu: bool,
) -> dict[str, str]:
    """Variables that the line sets itself."""
    settled = {}
    if settings.models:
        settled[CRYOSIAM_MODELS] = settings.models
    if not scheduler_owns_gpu:
        if not use_gpu:
            settled[VISIBLE_GPUS] = ""
        elif gpu_ids:
            settled[VISIBLE_GPUS] = ",".join(gpu_ids.replace(",", " ").split())
    home = os.environ.get("HOME", "")
    if not (home and os.access(home, os.W_OK | os.X_OK)):
        caches = str(work_folder / "tmp" / "cache")
        settled.update(dict.fromkeys(CACHE_VARIABLES, caches))
    return settled


def _cache_folders(settled: Mapping[str, str]) -> list[str]:
    """Folders for caches that the user chose: they may be outside of the home folder."""
    chosen = (os.environ.get(name) for name in CACHE_VARIABLES if name not in settled)
    return [folder for folder in chosen if folder]


def _container_start(
    settings: LaunchSettings, seen: Iterable[Path], gpu_support: bool
) -> list[str]:
    """The words that start the engine in the container."""
    program = find_apptainer(settings) or settings.apptainer
    words = [program, "exec", *(["--nv"] if gpu_support else [])]
    try:
        words += bind_options([Path.cwd(), *seen])
    except BindError as error:
        raise LaunchError(error.message, remedy=error.remedy) from error
    words += [word for bind in settings.extra_binds for word in ("--bind", bind)]
    return [*words, "--pwd", str(Path.cwd()), settings.sif, "cryosiam-engine"]
