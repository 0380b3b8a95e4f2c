"""What ``scipion3 installb`` does: the engine's own environment, and the models.

These are recipes. Scipion asks for them whenever it lists what could be installed, so nothing
here may look at the computer or depend on its settings: the shell commands do, when they run.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import List, Sequence, Tuple

from cryosiam_plugin.constants import TORCH_REQUIREMENT
from cryosiam_plugin.published_models import PublishedModel

HERE = Path(__file__).parent
ENGINE_SOURCE = HERE / "engine"
INSTALL_SCRIPT = HERE / "install_engine.sh"

#: Folder of the environment inside the package's folder.
ENVIRONMENT = "env"
#: Written last: that it is there means that the installed engine has run.
ENGINE_TARGET = "engine-installed"

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
    """Commands that download the published models, run in the package's folder.

    A model that is there already is not downloaded again; a download goes on where it stopped
    and gets its name only when it is complete and, where its sha256 is known, verified.
    """
    return [(_download(model), [model.file]) for model in models]


def _download(model: PublishedModel) -> str:
    file, partial = shlex.quote(model.file), shlex.quote(f"{model.file}.part")
    steps = [f"wget -nv -c -O {partial} {shlex.quote(model.url)}"]
    if model.sha256:
        sums = shlex.quote(f"{model.sha256}  {model.file}.part")
        # Away with a wrong file: a second try would take it for a download to go on with.
        steps.append(f"{{ echo {sums} | sha256sum -c - || {{ rm {partial}; false; }}; }}")
    return " && ".join([*steps, f"mv {partial} {file}"])
