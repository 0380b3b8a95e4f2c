"""The files that the engine draws masks from: sizes of tomograms, tables of particles, maps."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any, Iterable

import mrcfile
import numpy as np
from tomo.objects import Tomogram

from cryosiam_plugin.constants import VOXEL_SIZE_TOLERANCE
from cryosiam_plugin.convert.engine_inputs import file_of, link_tomogram
from cryosiam_plugin.convert.mask_particles import MaskParticle, Target
from cryosiam_plugin.convert.orientations import relion_angles
from cryosiam_plugin.convert.whole_files import replacing
from cryosiam_plugin.mrc import is_mrc, read_voxel_size, write_voxel_size

_BALLS_HEADER = ("centroid-0", "centroid-1", "centroid-2", "tomo", "semantic_class")
_STAR_COLUMNS = (
    "rlnTomoName",
    "rlnCoordinateX",
    "rlnCoordinateY",
    "rlnCoordinateZ",
    "rlnAngleRot",
    "rlnAngleTilt",
    "rlnAnglePsi",
)
_INT8 = 0


def write_frame(target: Target, path: Path) -> None:
    """Write an empty mask of a tomogram's size and geometry.

    It needs hardly any space on disk: voxels that were never written are 0.

    Parameters
    ----------
    target
        The tomogram. Scipion's voxel size counts, whatever its header says.
    path
        The MRC file (8 bit).
    """
    source = Path(file_of(target.tomogram))
    with replacing(path) as partial, mrcfile.new_mmap(
        partial, shape=target.shape, mrc_mode=_INT8
    ) as mrc:
        mrc.voxel_size = target.tomogram.getSamplingRate()
        if source.is_file() and is_mrc(source):
            # Programs that go by the header shall find both in the same place.
            with mrcfile.open(source, header_only=True, permissive=True) as original:
                mrc.header.origin = original.header.origin
                mrc.nstart = original.nstart


def write_balls(path: Path, particles: Iterable[MaskParticle]) -> None:
    """Write the table from which the engine draws balls, each around the nearest voxel.

    The engine cuts fractions off, which would move all balls by half a voxel on average.
    """
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_BALLS_HEADER)
        for particle in particles:
            centre = [int(np.floor(value + 0.5)) for value in particle.centre]
            writer.writerow([*centre, particle.tsId, particle.label])


def write_star(path: Path, particles: Iterable[MaskParticle]) -> None:
    """Write the STAR file from which the engine places maps.

    Raises
    ------
    ValueError
        When an orientation is no rotation.
    """
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write("data_particles\n\nloop_\n")
        stream.writelines(f"_{name} #{n}\n" for n, name in enumerate(_STAR_COLUMNS, 1))
        for particle in particles:
            numbers = [*particle.centre[::-1], *relion_angles(particle.rotation)]
            row = " ".join(f"{number:.6f}" for number in numbers)
            stream.write(f"{particle.tsId} {row}\n")


def link_map(volume: Any, folder: Path, name: str) -> Path:
    """Put an average map where the engine finds it, with Scipion's voxel size in its header.

    Parameters
    ----------
    volume
        A volume or average subtomogram.
    folder, name
        Of the new file, ``<folder>/<name>.mrc``.

    Returns
    -------
    Path
        A link, or a copy where the format or the header is not the right one.

    Raises
    ------
    FileNotFoundError, ValueError
        When the map's file is not there, or cannot be read.
    """
    source = Tomogram()
    source.setFileName(volume.getFileName())
    source.setSamplingRate(volume.getSamplingRate())
    source.setTsId(name)
    path = Path(link_tomogram(source, str(folder)))
    wanted = volume.getSamplingRate()
    if abs(read_voxel_size(path) - wanted) > VOXEL_SIZE_TOLERANCE * wanted:
        with replacing(path) as partial:
            shutil.copyfile(path, partial)
            write_voxel_size(partial, wanted)
    return path
