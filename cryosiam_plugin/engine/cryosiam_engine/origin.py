"""What a process can say about the origin of its results: programs, container, GPU, run."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

#: Set by who starts the container: the image's file and, where it is known, the file's sha256.
IMAGE, IMAGE_SHA256 = "CRYOSIAM_IMAGE", "CRYOSIAM_IMAGE_SHA256"
#: Set by Apptainer and Singularity themselves.
_CONTAINERS = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
#: What an image says about itself.
IMAGE_LABELS = Path("/etc/cryosiam-image.json")
_LABELS = ("version", "revision", "built")
#: Packages that compute; only those that the command has loaded are named.
_PACKAGES = ("torch", "monai", "lightning", "numpy", "scipy", "skimage", "sklearn", "umap", "elf")

# Of the process, not of a thread: results are also written by other threads than the main one.
_run: dict[str, Any] = {}


@contextmanager
def during_run(values: dict[str, Any]) -> Iterator[None]:
    """Let every status that is made in the block say this about its run.

    Parameters
    ----------
    values
        JSON values, such as where the configuration is kept.
    """
    before = dict(_run)
    _run.clear()
    _run.update(values)
    try:
        yield
    finally:
        _run.clear()
        _run.update(before)


def process_origin() -> dict[str, Any]:
    """Say how this process came to its results, as JSON values.

    Returns
    -------
    dict
        ``arguments`` of the command line, ``versions`` of the programs that compute, ``gpus`` by
        device, NVIDIA ``driver``, container ``image`` (None outside of one), and what
        :func:`during_run` was told.
    """
    gpus = _gpus()
    return {
        "arguments": sys.argv[1:],
        "versions": _versions(),
        "gpus": gpus,
        "driver": _driver() if gpus else None,
        "image": container_image(),
        **_run,
    }


def container_image() -> dict[str, str] | None:
    """The image of the container that this process runs in.

    Returns
    -------
    dict or None
        ``path`` and ``sha256`` of the image's file, and the image's own ``version``, source
        ``revision`` and time it was ``built``, as far as they are known; None outside of a
        container.
    """
    paths = (os.environ.get(name, "") for name in (IMAGE, *_CONTAINERS))
    image = {"path": next(filter(None, paths), ""), "sha256": os.environ.get(IMAGE_SHA256, "")}
    image = {name: value for name, value in image.items() if value}
    try:
        labels = json.loads(IMAGE_LABELS.read_text(encoding="utf-8"))
        image.update({name: str(labels[name]) for name in _LABELS if labels.get(name)})
    except (OSError, ValueError, AttributeError):
        pass  # an image that somebody else built
    return image or None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    versions |= {name: _version(name) for name in _PACKAGES if name in sys.modules}
    torch = sys.modules.get("torch")
    if torch is not None and torch.version.cuda:
        versions["cuda"] = str(torch.version.cuda)
    return versions


@cache
def _version(module: str) -> str:
    names = {"skimage": "scikit-image", "sklearn": "scikit-learn", "umap": "umap-learn"}
    try:
        return metadata.version({**names, "elf": "python-elf"}.get(module, module))
    except metadata.PackageNotFoundError:
        return str(getattr(sys.modules[module], "__version__", "unknown"))


def _gpus() -> dict[str, str]:
    """The GPUs by device, where this process computes on one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    count = torch.cuda.device_count()
    return {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(count)}


@cache
def _driver() -> str | None:
    from cryosiam_engine.doctor import driver_version

    return driver_version()
