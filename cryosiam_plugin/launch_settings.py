"""How the engine is to be started, as configured, and the error where that cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from cryosiam_plugin.constants import RUNTIME_AUTO


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
    installed_sif
        Where Scipion's installer puts the image.
    version
        Of the engine that the plugin works with; empty for any.
    """

    runtime: str = RUNTIME_AUTO
    engine_python: str = ""
    apptainer: str = ""
    sif: str = ""
    models: str = ""
    extra_binds: tuple[str, ...] = ()
    installed_sif: str = ""
    version: str = ""
