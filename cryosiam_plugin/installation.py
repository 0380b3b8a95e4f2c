"""What ``scipion3 installb`` does: the engine's own environment, and the models.

These are recipes. Scipion asks for them whenever it lists what could be installed, so nothing
here may look at the computer or depend on its settings: the shell commands do, when they run.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import List, Sequence, Tuple

from cryosiam_plugin.constants import MODELS_PACKAGE, MODELS_VERSION, TORCH_REQUIREMENT
from cryosiam_plugin.published_models import PublishedModel

HERE = Path(__file__).parent
ENGINE_SOURCE = HERE / "engine"
INSTALL_SCRIPT = HERE / "install_engine.sh"
MODELS_SCRIPT = HERE / "install_models.sh"

#: Folder of the environment inside the package's folder.
ENVIRONMENT = "env"
#: Written last: that it is there means that the installed engine has run.
ENGINE_TARGET = "engine-installed"
#: Is there for a moment when all models have arrived.
MODELS_TARGET = "models-verified"

#: A shell command and the files that it must leave.
Command = Tuple[str, List[str]]


def engine_commands(source: Path = ENGINE_SOURCE, torch: str = TORCH_REQUIREMENT) -> list[Command]:
    """Commands that make the native environment, run in the package's folder.

    Parameters
    ----------
    source
        The engine's project.
    torch
        What pip installs as PyTorch. CRYOSIAM_TORCH in the environment of the installation
        replaces it, for instance by a build for an older driver.
    """
    words = ["bash", str(INSTALL_SCRIPT), ENVIRONMENT, str(source), torch, ENGINE_TARGET]
    return [(" ".join(map(shlex.quote, words)), [ENGINE_TARGET])]


def models_commands(models: Sequence[PublishedModel]) -> list[Command]:
    """Commands that bring published models into the folder of models.

    They go to CRYOSIAM_MODELS, as it is set when the commands run, else beside the package's
    folder, where its default is. The installed engine downloads and verifies them; without one,
    wget downloads, and the script compares them with the hub's checksums, as far as it gives any.
    A model that is there is verified and not downloaded again.

    Parameters
    ----------
    models
        Which ones.
    """
    words = ["bash", str(MODELS_SCRIPT), MODELS_TARGET, f"{MODELS_PACKAGE}-{MODELS_VERSION}"]
    for model in models:
        words += [model.name, model.file, model.url, model.sha256 or "-"]
    # Scipion skips a package whose targets are all there. A model may be gone, or the variable
    # changed, so the target goes again once it has been seen.
    return [
        (" ".join(map(shlex.quote, words)), [MODELS_TARGET]),
        (f"rm -f {MODELS_TARGET}", []),
    ]
