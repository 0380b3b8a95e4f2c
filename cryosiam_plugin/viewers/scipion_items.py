"""Items of Scipion's sets as the slice viewer takes them: files, names, particles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tomo.objects import SetOfCoordinates3D, SetOfMeshes, SetOfTomograms, Tomogram

from cryosiam_plugin.convert import (
    CLASS_NAME,
    INSTANCE_ID,
    N_VOXELS,
    file_of,
    index_of,
    instance_classes_of,
    label_table_of,
    voxel_origin,
)
from cryosiam_plugin.convert.embeddings import CLUSTER
from cryosiam_plugin.viewers.marks import Particle
from cryosiam_plugin.viewers.scene import MaskFile
from cryosiam_plugin.viewers.surfaces import SurfacePoints


def mask_file(mask: Tomogram, title: str, *, shown: bool = True) -> MaskFile:
    """A mask as a layer of the viewer, with the names of its classes."""
    objects = instance_classes_of(mask) is not None
    return MaskFile(path_of(mask), title, label_table_of(mask), shown, objects)


def items_of(tomograms: SetOfTomograms | None) -> dict[str, Tomogram]:
    """The items of a set by tsId, each an object of its own; none of no set."""
    if tomograms is None:
        return {}
    # A set gives the same object again and again.
    found = {item.getTsId(): item.clone() for item in tomograms.iterItems()}
    tomograms.close()
    return found


def path_of(tomogram: Tomogram) -> Path:
    """A tomogram's file."""
    # Scipion's names are relative to the project, where it runs.
    return Path(file_of(tomogram)).absolute()


def counts_of(coordinates: SetOfCoordinates3D | None) -> dict[str, int]:
    """How many particles each tomogram has, by tsId."""
    if coordinates is None:
        return {}
    rows = coordinates.aggregate(["COUNT"], "_tomoId", ["_tomoId"])
    return {row["_tomoId"]: int(row["COUNT"]) for row in rows}


def particles_of(coordinates: SetOfCoordinates3D, tomogram: Tomogram) -> list[Particle]:
    """The particles of a tomogram, class by class."""
    origin = voxel_origin(tomogram)
    found = []
    for coordinate in coordinates.iterCoordinates(volume=tomogram):
        size = getattr(coordinate, N_VOXELS, None)
        number = getattr(coordinate, INSTANCE_ID, None)
        score = coordinate.getScore()
        found.append(
            Particle(
                index_of(coordinate, origin),
                _class_name(coordinate),
                score=float(score) if score else None,
                size=size.get() if size is not None else None,
                number=number.get() if number is not None else None,
            )
        )
    coordinates.close()
    return sorted(found, key=lambda particle: particle.class_name)


def surfaces_of(meshes: SetOfMeshes, tomogram: Tomogram) -> SurfacePoints:
    """The surfaces of a tomogram's instances."""
    # Hundreds of thousands of points: read as numbers, not as objects of Scipion.
    columns = ["_groupId", "_z", "_y", "_x"]
    found = meshes.getUniqueValues(columns, where=f"_tomoId='{tomogram.getTsId()}'")
    meshes.close()
    x, y, z = voxel_origin(tomogram)
    positions = np.stack([np.array(found[c], float) for c in columns[1:]], axis=1)
    return SurfacePoints(positions - (z, y, x), np.array(found["_groupId"], np.int64))


def _class_name(coordinate: Any) -> str:
    cluster = getattr(coordinate, CLUSTER, None)
    if cluster is not None:
        return f"cluster {cluster.get()}" if cluster.get() else "no cluster"
    column = getattr(coordinate, CLASS_NAME, None)
    if column is not None and column.get():
        return str(column.get())
    group = coordinate.getGroupId()
    return f"group {group}" if group else "particle"
