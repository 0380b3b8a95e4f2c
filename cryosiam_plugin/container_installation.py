"""What ``scipion3 installb`` does for the container: builds its image from this package alone.

A recipe: nothing here looks at the computer; the shell command does, when it runs.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from cryosiam_plugin.installation import Command

BUILD_SCRIPT = Path(__file__).parent / "containers" / "build_sif.sh"

#: The image in the package's folder. It gets this name only when its own test has passed.
IMAGE = "cryosiam-engine.sif"


def image_commands() -> list[Command]:
    """Commands that build the image, run in the package's folder.

    CRYOSIAM_SIF_OPTIONS in the environment of the installation adds options of
    ``apptainer build``, for instance ``--build-arg TORCH=cpu`` for an image without CUDA.
    """
    return [(build_command(IMAGE), [IMAGE])]


def build_command(image: str) -> str:
    """The line for a shell that builds the image as a file, wherever that shall be."""
    return " ".join(map(shlex.quote, ["bash", str(BUILD_SCRIPT), image]))
