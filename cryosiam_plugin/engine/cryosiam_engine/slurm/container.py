"""The words that start the engine on a node, in a container or in an environment."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.slurm.binds import BindError, bind_options, with_links_inside
from cryosiam_engine.slurm.image_digest import image_variables


def engine_words(
    *, container: str | None, python: str | None, paths: Iterable[Path], use_gpu: bool
) -> str:
    """The words of a shell line that start ``cryosiam-engine``, quoted.

    Parameters
    ----------
    container
        A SIF image; None to run a Python's own engine.
    python
        That Python; None for the one that runs this.
    paths
        Files and folders that a container must see, with what links in the folders lead to,
        beside the current folder. Of what is not there yet it sees where it will be made.
    use_gpu
        Whether the container gets the host's GPUs.

    Raises
    ------
    ConfigurationError
        When the image, or the Python, is not there, or a folder would hide the image's own.
    """
    if container is None:
        program = python or sys.executable
        if shutil.which(program) is None:
            raise ConfigurationError(f"{program} is no program.", remedy="Correct --native.")
        return shlex.join([program, "-I", "-m", "cryosiam_engine.cli"])
    image = Path(container).absolute()
    if not image.exists():
        raise ConfigurationError(f"No such image: {image}.", remedy="Correct --container.")
    # By name: where the programs are may differ between here and the nodes.
    name = next((n for n in ("apptainer", "singularity") if shutil.which(n)), "apptainer")
    try:
        binds = bind_options([Path.cwd(), *with_links_inside(map(_there, paths))])
    except BindError as error:
        raise ConfigurationError(error.message, remedy=error.remedy) from error
    told = (f"{variable}={value}" for variable, value in image_variables(str(image)).items())
    words = ["env", *told, name, "exec", *(["--nv"] if use_gpu else []), *binds]
    return shlex.join([*words, "--pwd", str(Path.cwd()), str(image), "cryosiam-engine"])


def _there(path: Path) -> Path:
    """`path`, or what there is of the way to it."""
    path = path.absolute()
    return next((place for place in (path, *path.parents) if place.exists()), path)


def paths_in(values: Any) -> Iterator[Path]:
    """Find every path in a configuration."""
    if isinstance(values, Path):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from paths_in(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from paths_in(value)
