"""Tomograms as the engine finds them, and the configuration of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping

import mrcfile
import numpy as np
import tifffile
import yaml
from pwem.emlib.image.image_readers import ImageReadersRegistry
from tomo.objects import Tomogram

from cryosiam_plugin.mrc import is_mrc

VOLUME_AXES = 3
TIFF = (".tif", ".tiff")


def link_tomogram(tomogram: Tomogram, folder: str, *, ending: str = "") -> str:
    """Put a tomogram where the engine finds it, under its tsId.

    A link to the real file, or, of a format that the engine cannot read, a float32 MRC copy.

    Parameters
    ----------
    tomogram
        A tomogram or mask of a Scipion set.
    folder
        The run's input folder; made when it is not there.
    ending
        Of the link's name, before its suffix.

    Returns
    -------
    str
        ``<folder>/<tsId><ending>.mrc``.

    Raises
    ------
    FileNotFoundError, ValueError
        When the tomogram's file is not there, or is of no format that Scipion can read.
    """
    source = Path(file_of(tomogram)).resolve()
    if not source.is_file():
        raise FileNotFoundError(f"The file of {tomogram.getTsId()} does not exist: {source}")
    link = Path(folder) / f"{tomogram.getTsId()}{ending}.mrc"
    link.parent.mkdir(parents=True, exist_ok=True)
    if is_mrc(source):
        _link(source, link)
    elif not _is_newer(link, source):
        _convert(source, link, tomogram.getSamplingRate())
    return str(link)


def file_of(tomogram: Tomogram) -> str:
    """The tomogram's file, without the format that Scipion may have noted behind its name."""
    name = tomogram.getFileName()
    for mark in (":mrcs", ":mrc"):
        if name.endswith(mark):
            return name[: -len(mark)]
    return name


def write_run_config(path: str, mapping: Mapping[str, Any]) -> str:
    """Write the engine's configuration of a run, replacing an earlier one at once.

    Parameters
    ----------
    path
        The YAML file.
    mapping
        Keys as in a CryoSiam configuration; paths and NumPy numbers may be among the values.

    Returns
    -------
    str
        `path`.
    """
    text = yaml.safe_dump(
        _plain(mapping), sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    target = Path(path)
    partial = target.with_name(f".{target.name}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    return str(path)


def _link(source: Path, link: Path) -> None:
    """Make or correct a link; another step may be doing the same."""
    if link.is_symlink() and os.readlink(link) == str(source):
        return
    partial = link.with_name(f".{link.name}.{os.getpid()}.part")
    partial.unlink(missing_ok=True)
    partial.symlink_to(source)
    partial.replace(link)


def _is_newer(made: Path, source: Path) -> bool:
    """Whether `made` is a file of its own and was made after `source` changed."""
    if made.is_symlink() or not made.is_file():
        return False
    return made.stat().st_mtime_ns >= source.stat().st_mtime_ns


def _convert(source: Path, target: Path, sampling_rate: float) -> None:
    try:
        volume = np.squeeze(_read(source))
    except Exception as error:
        raise ValueError(
            f"{source} cannot be read: {error}. Convert it to MRC and import it again."
        ) from error
    if volume.ndim != VOLUME_AXES:
        raise ValueError(
            f"{source} is not a volume: its shape is {volume.shape}. Import a reconstructed "
            "tomogram."
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    with mrcfile.new(partial, overwrite=True) as mrc:
        mrc.set_data(volume.astype(np.float32, copy=False))
        mrc.set_volume()
        mrc.voxel_size = sampling_rate
    partial.replace(target)


def _read(source: Path) -> np.ndarray:
    # Scipion's reader of TIFF gives the first slice only. The others are called directly, because
    # its registry would keep every tomogram that it ever read in memory.
    if source.suffix.lower() in TIFF:
        return np.asarray(tifffile.imread(source))
    return np.asarray(ImageReadersRegistry.getReader(str(source)).open(str(source)))


def _plain(value: Any) -> Any:
    """`value` in the types that YAML has."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, np.generic) else value
