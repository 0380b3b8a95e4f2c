"""scipion-em-cryosiam: CryoSiam for cryo-electron tomography in Scipion."""

from __future__ import annotations

import os
import time
from typing import Any

import pwem
import pyworkflow as pw
from pyworkflow import VarTypes
from pyworkflow.utils import Environ

from cryosiam_plugin import constants
from cryosiam_plugin.container_installation import IMAGE, image_commands
from cryosiam_plugin.installation import ENVIRONMENT, engine_commands, models_commands
from cryosiam_plugin.launcher import (
    LaunchError,
    LaunchSettings,
    choose_runtime,
    engine_environment,
)
from cryosiam_plugin.published_models import (
    BuiltInModel,
    PublishedModel,
    read_built_in_models,
    read_published_models,
)
from cryosiam_plugin.viewer_preference import prefer_our_viewer

__version__ = "0.1.0"
_logo = "icon.png"
_references = ["Stojanovska2025"]

#: The image that is installed, in the folder of Scipion's packages.
_SIF = f"{constants.SIF_PACKAGE}-{__version__}/{IMAGE}"
#: Seconds for which an answer about the installation holds: the GUI asks once per protocol.
VALIDATION_LASTS = 10.0


class Plugin(pwem.Plugin):
    """CryoSiam in Scipion: its variables, what it installs, and whether that is there."""

    _supportedVersions = [__version__]  # noqa: RUF012 - Scipion's own attribute
    _url = constants.URL
    _processingField = [pw.TOMO]  # noqa: RUF012
    _validated: tuple[LaunchSettings, float, list[str]] | None = None

    @classmethod
    def _defineVariables(cls) -> None:
        """Declare the variables that scipion.conf and the environment can set."""
        prefer_our_viewer(pw.Config.VIEWERS)
        cls._defineVar(
            constants.CRYOSIAM_RUNTIME,
            constants.RUNTIME_AUTO,
            description="How CryoSiam's engine runs: apptainer (a container), native (its own "
            "Python environment), or auto (the container where one is set, else native).",
            var_type=VarTypes.STRING,
        )
        cls._defineEmVar(
            constants.CRYOSIAM_SIF,
            _SIF,
            description="Container image (SIF file) with CryoSiam's engine; it need not exist.",
            var_type=VarTypes.PATH,
        )
        cls._defineVar(
            constants.CRYOSIAM_APPTAINER,
            "",
            description="The apptainer program. Empty: apptainer or singularity, as found in PATH.",
            var_type=VarTypes.PATH,
        )
        cls._defineVar(
            constants.CRYOSIAM_EXTRA_BINDS,
            "",
            description="Further folders that the container must see, separated by commas. "
            "The project, the tomograms and the models need not be listed.",
            var_type=VarTypes.STRING,
        )
        cls._defineEmVar(
            constants.CRYOSIAM_ENGINE_PYTHON,
            f"{constants.ENGINE_PACKAGE}-{__version__}/{ENVIRONMENT}/bin/python",
            description="Python of the native environment that CryoSiam's engine is installed in.",
            var_type=VarTypes.PATH,
        )
        cls._defineEmVar(
            constants.CRYOSIAM_MODELS,
            f"{constants.MODELS_PACKAGE}-{constants.MODELS_VERSION}",
            description="Folder with the published CryoSiam models (checkpoints, .ckpt).",
            var_type=VarTypes.FOLDER,
        )

    @classmethod
    def getLaunchSettings(cls) -> LaunchSettings:
        """How the engine is to be started, as configured."""
        binds = cls.getVar(constants.CRYOSIAM_EXTRA_BINDS, "").split(",")
        return LaunchSettings(
            runtime=cls.getVar(constants.CRYOSIAM_RUNTIME, "").strip().lower(),
            engine_python=_expanded(cls.getVar(constants.CRYOSIAM_ENGINE_PYTHON, "")),
            apptainer=_expanded(cls.getVar(constants.CRYOSIAM_APPTAINER, "")),
            sif=_expanded(cls.getVar(constants.CRYOSIAM_SIF, "")),
            models=cls.getModelsFolder(),
            extra_binds=tuple(_expanded(bind) for bind in binds if bind.strip()),
            installed_sif=os.path.join(pwem.Config.EM_ROOT, _SIF),  # noqa: PTH118 - as Scipion
            version=__version__,
        )

    @classmethod
    def getModelsFolder(cls) -> str:
        """The folder with the published models; it need not exist."""
        return _expanded(cls.getVar(constants.CRYOSIAM_MODELS, ""))

    @classmethod
    def publishedModels(cls) -> list[PublishedModel]:
        """The models that the authors of CryoSiam publish, in the order of use."""
        return list(read_published_models())

    @classmethod
    def builtInModels(cls) -> list[BuiltInModel]:
        """The models that come with the engine, for trying out, in the order of use."""
        return list(read_built_in_models())

    @classmethod
    def getEnviron(cls) -> Environ:
        """The environment for the engine, without Scipion's own Python and libraries."""
        return Environ(engine_environment(os.environ))

    @classmethod
    def getActiveVersion(cls, home: Any = None, versions: Any = None) -> str:
        """The engine's version: it is installed from this very package."""
        return __version__

    @classmethod
    def validateInstallation(cls) -> list[str]:
        """Say what is missing and what to do about it; empty when the engine can be started.

        Called for every protocol of the tree and again in every run, so it only looks whether
        files are there, and remembers the answer for a moment.
        """
        settings = cls.getLaunchSettings()
        if cls._validated is not None:
            known, since, problems = cls._validated
            if known == settings and time.monotonic() - since < VALIDATION_LASTS:
                return list(problems)
        try:
            choose_runtime(settings)
            problems = []
        except LaunchError as error:
            problems = [error.message, error.remedy]
        except Exception as error:  # it is asked by code that does not expect any
            problems = [f"CryoSiam's installation cannot be checked: {error}"]
        cls._validated = (settings, time.monotonic(), problems)
        return list(problems)

    @classmethod
    def defineBinaries(cls, env: Any) -> None:
        """Tell Scipion how to install the engine, and how to download the models."""
        # There is no archive to unpack, and asking Scipion's server for its empty one would only
        # fail on a computer without the internet.
        nothing = {"tar": "void.tgz", "url": "file:/dev/null"}
        models = cls.publishedModels()
        # The last one is what the name without a version means.
        for version, chosen in [
            *((m.name, [m]) for m in models),
            (constants.MODELS_VERSION, models),
        ]:
            env.addPackage(
                constants.MODELS_PACKAGE,
                version=version,
                commands=models_commands(chosen),
                neededProgs=["bash"],
                default=False,
                **nothing,
            )
        env.addPackage(
            constants.SIF_PACKAGE,
            version=__version__,
            commands=image_commands(),
            neededProgs=["bash"],
            default=False,
            **nothing,
        )
        env.addPackage(
            constants.ENGINE_PACKAGE,
            version=__version__,
            commands=engine_commands(),
            neededProgs=["bash"],
            default=True,
            **nothing,
        )


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path.strip()))  # noqa: PTH111 - may be no path
