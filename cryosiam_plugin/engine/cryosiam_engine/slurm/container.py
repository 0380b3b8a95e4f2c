"""The words that start the engine on a node, in a container or in an environment."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cryosiam_engine.errors import ConfigurationError


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
        Files and folders that a container must see.
    use_gpu
        Whether the container gets the host's GPUs.

    Raises
    ------
    ConfigurationError
        When the image, or the Python, is not there.
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
    words = [name, "exec", *(["--nv"] if use_gpu else []), *_binds(paths)]
    return shlex.join([*words, "--pwd", str(Path.cwd()), str(image), "cryosiam-engine"])


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


def _binds(paths: Iterable[Path]) -> Iterator[str]:
    """Bind folders under their own names, with those that links lead to."""
    folders: set[Path] = set()
    for path in paths:
        for place in (path.absolute(), path.resolve()):
            folders.add(place if place.is_dir() else place.parent)
    folders.discard(Path("/"))
    for folder in sorted(folders):
        if not folder.is_dir() or any(parent in folders for parent in folder.parents):
            continue
        text = str(folder).replace('"', '""')
        yield from ("--mount", f'type=bind,"source={text}","destination={text}"')
