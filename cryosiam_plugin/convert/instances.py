"""The engine's instances as Scipion's coordinates, and their masks as the engine's input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from pyworkflow.object import Float, Integer, String
from tomo.objects import Coordinate3D, Tomogram, TomoMask

from cryosiam_plugin.convert.engine_inputs import file_of, link_tomogram
from cryosiam_plugin.convert.particles import coordinate_from, typed_rows, voxel_origin
from cryosiam_plugin.convert.volumes import format_label_table, read_label_table, tomo_mask_from

#: Columns that the coordinates of instances have besides those of all our coordinates.
INSTANCE_ID = "_instanceId"
VOLUME_NM3 = "_volumeNm3"
#: First and last voxel along each axis, by the engine's number of the axis (z, y, x).
FIRST_VOXEL = ("_minZ", "_minY", "_minX")
LAST_VOXEL = ("_maxZ", "_maxY", "_maxX")

#: Column of a mask whose labels are instances: names of the classes they were taken from, as JSON.
INSTANCE_CLASSES = "_instanceClasses"

#: Of instances whose class nobody told.
INSTANCE = "instance"
NO_CLASS = 1

#: How the names of the engine's files of a tomogram end.
INSTANCES_ENDING = "_instance_preds"
_TABLE_ENDING = "_particles.csv"
_BOX_PER_DIAMETER = 1.5
_WHOLE = ("label", "area", *(f"bbox-{i}" for i in range(6)))
_FRACTIONAL = ("centroid-0", "centroid-1", "centroid-2")


def read_instances(csv_path: str) -> list[dict[str, Any]]:
    """Read the engine's table of a tomogram's instances.

    Parameters
    ----------
    csv_path
        With the columns ``label``, ``area``, ``bbox-0`` to ``bbox-5`` (first voxel z, y, x and
        the one behind the last), ``centroid-0`` to ``centroid-2`` (voxels z, y, x) and, where it
        is known, ``score`` and ``semantic_class``.

    Returns
    -------
    list of dict
        One per instance, with numbers.

    Raises
    ------
    OSError, ValueError
        When there is no such file or it is not such a table.
    """
    return typed_rows(csv_path, _typed, "instances")


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    typed: dict[str, Any] = {name: int(float(row[name])) for name in _WHOLE}
    typed.update({name: float(row[name]) for name in _FRACTIONAL})
    typed["score"] = float(row.get("score") or 0.0)
    typed["semantic_class"] = int(float(row.get("semantic_class") or 0))
    return typed


def instance_coordinates(
    rows: Iterable[Mapping[str, Any]], tomogram: Tomogram, class_table: Mapping[int, str]
) -> Iterator[Coordinate3D]:
    """Make the coordinates of all instances of a tomogram, in the order of the rows.

    Parameters
    ----------
    rows
        What :func:`read_instances` gives.
    tomogram
        An item of the set that the coordinates will have as precedents.
    class_table
        Names of the classes that the instances may have; an instance without a class is in group
        1 and called ``instance``.
    """
    origin = voxel_origin(tomogram)
    cubic_nm = (tomogram.getSamplingRate() / 10) ** 3
    for row in rows:
        class_id = row["semantic_class"]
        coordinate = coordinate_from(
            (row["centroid-0"], row["centroid-1"], row["centroid-2"]),
            tomogram,
            class_id=class_id or NO_CLASS,
            class_name=class_table.get(class_id) or (f"class {class_id}" if class_id else INSTANCE),
            n_voxels=row["area"],
            score=row["score"],
            origin=origin,
        )
        setattr(coordinate, INSTANCE_ID, Integer(row["label"]))
        # From Scipion's voxel size: those in headers are often wrong.
        setattr(coordinate, VOLUME_NM3, Float(row["area"] * cubic_nm))
        for axis in range(3):
            setattr(coordinate, FIRST_VOXEL[axis], Integer(row[f"bbox-{axis}"]))
            setattr(coordinate, LAST_VOXEL[axis], Integer(row[f"bbox-{axis + 3}"] - 1))
        yield coordinate


def instance_mask_from(source: Tomogram, path: str, class_table: Mapping[int, str]) -> TomoMask:
    """Make the mask of a tomogram's instances.

    Parameters
    ----------
    source, path
        As in :func:`cryosiam_plugin.convert.tomo_mask_from`.
    class_table
        Names of the classes that the instances were separated in; empty where all are of one
        kind. It becomes a column, which also tells that the labels are instances.
    """
    mask = tomo_mask_from(source, path, {})
    setattr(mask, INSTANCE_CLASSES, String(format_label_table(class_table)))
    return mask


def instance_classes_of(mask: Tomogram) -> dict[int, str] | None:
    """Names of the classes of a mask's instances; None of a mask that is not of instances."""
    return read_label_table(mask, INSTANCE_CLASSES)


def suggested_box(voxels: Mapping[int, int]) -> int:
    """A box for the extraction: 1.5 times the median diameter, rounded up to an even number.

    Parameters
    ----------
    voxels
        How many instances there are of each size in voxels.

    Returns
    -------
    int
        In voxels; 0 without instances. The diameter is that of a sphere of the same volume.
    """
    half = sum(voxels.values()) / 2
    passed = 0
    for size in sorted(voxels):
        passed += voxels[size]
        if passed >= half:
            diameter = 2 * (3 * size / (4 * math.pi)) ** (1 / 3)
            return 2 * math.ceil(_BOX_PER_DIAMETER * diameter / 2)
    return 0


def link_instances(mask: Tomogram, folder: str) -> str:
    """Put an instance mask, and the table of it if there is one, where the engine's filter looks.

    Parameters
    ----------
    mask
        An item of a set of instance masks.
    folder
        The run's prediction folder.

    Returns
    -------
    str
        ``<folder>/<tsId>_instance_preds.mrc``.
    """
    linked = link_tomogram(mask, folder, ending=INSTANCES_ENDING)
    table = instance_table(mask)
    if table.is_file():
        link = Path(folder) / f"{mask.getTsId()}{_TABLE_ENDING}"
        link.unlink(missing_ok=True)
        link.symlink_to(table.resolve())
    return linked


def instance_table(mask: Tomogram) -> Path:
    """Where the engine's table of an instance mask lies, if the mask is the engine's."""
    return Path(file_of(mask)).with_name(f"{mask.getTsId()}{_TABLE_ENDING}")
