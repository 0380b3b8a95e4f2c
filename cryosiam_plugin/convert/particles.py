"""The engine's particles as Scipion's coordinates, and back."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence, Tuple

from pyworkflow.object import Integer, String
from tomo.constants import SCIPION
from tomo.objects import Coordinate3D, Tomogram

#: Columns that our coordinates have besides Scipion's own.
CLASS_NAME = "_className"
N_VOXELS = "_nVoxels"

Index = Tuple[float, float, float]


def coordinate_from(
    index_zyx: Sequence[float],
    tomogram: Tomogram,
    *,
    class_id: int = 0,
    class_name: str = "",
    n_voxels: int = 0,
    score: float = 0.0,
    origin: Sequence[float] | None = None,
) -> Coordinate3D:
    """Make the coordinate of a particle.

    Parameters
    ----------
    index_zyx
        Its centre in voxels (z, y, x), 0 at the centre of the first voxel.
    tomogram
        An item of the set that the coordinates will have as precedents.
    class_id
        Label value of its class; becomes the group.
    class_name
        Name of its class; a column of its own.
    n_voxels
        Its size; a column of its own.
    score
        How sure the network is, 0 where it does not say.
    origin
        What :func:`voxel_origin` gives for the tomogram; saves reading the header once per
        particle.
    """
    coordinate = Coordinate3D()
    coordinate.setVolume(tomogram)
    # The same as setPosition from the bottom left corner, which looks into the file three times.
    origin = voxel_origin(tomogram) if origin is None else origin
    z, y, x = (float(value) for value in index_zyx)
    coordinate.setPosition(x + origin[0], y + origin[1], z + origin[2], SCIPION)
    coordinate.setGroupId(int(class_id))
    coordinate.setScore(float(score))
    setattr(coordinate, CLASS_NAME, String(class_name))
    setattr(coordinate, N_VOXELS, Integer(int(n_voxels)))
    return coordinate


def coordinates_from(
    rows: Iterable[Mapping[str, Any]], tomogram: Tomogram, class_table: Mapping[int, str]
) -> Iterator[Coordinate3D]:
    """Make the coordinates of all particles of a tomogram, in the order of the rows.

    Parameters
    ----------
    rows
        What :func:`read_particles` gives.
    tomogram
        As in :func:`coordinate_from`.
    class_table
        Names of the label values; a class without one is called ``class <label>``.
    """
    origin = voxel_origin(tomogram)
    for row in rows:
        label = int(row["semantic_class"])
        yield coordinate_from(
            (row["centroid-0"], row["centroid-1"], row["centroid-2"]),
            tomogram,
            class_id=label,
            class_name=class_table.get(label, f"class {label}"),
            n_voxels=int(row.get("area", 0)),
            score=float(row.get("score", 0.0)),
            origin=origin,
        )


def index_of(coordinate: Coordinate3D, origin: Sequence[float] | None = None) -> Index:
    """Voxel index (z, y, x) of a coordinate, with fractions: the way back.

    Parameters
    ----------
    coordinate
        With its tomogram, as ``iterCoordinates`` gives it.
    origin
        As in :func:`coordinate_from`.
    """
    origin = voxel_origin(coordinate.getVolume()) if origin is None else origin
    x, y, z = coordinate.getPosition(SCIPION)
    return z - origin[2], y - origin[1], x - origin[0]


def voxel_origin(tomogram: Tomogram) -> Index:
    """Where Scipion puts a tomogram's first voxel: (x, y, z) in voxels, not always whole."""
    sampling_rate = tomogram.getSamplingRate()
    x, y, z = tomogram.getShiftsFromOrigin()
    return x / sampling_rate, y / sampling_rate, z / sampling_rate


def rows_with_box_inside(
    rows: Iterable[dict[str, Any]], shape_zyx: Sequence[int], box: int
) -> list[dict[str, Any]]:
    """The particles whose whole box is in the tomogram.

    Parameters
    ----------
    rows
        What :func:`read_particles` gives: index 0 is the centre of the first voxel.
    shape_zyx
        The tomogram's size in voxels.
    box
        Edge of the box in voxels.
    """
    # A volume reaches half a voxel beyond the centres of its first and last voxels.
    first = box / 2 - 0.5
    return [
        row
        for row in rows
        if all(
            first <= row[f"centroid-{axis}"] <= length - 1 - first
            for axis, length in enumerate(shape_zyx)
        )
    ]


def read_particles(csv_path: str) -> list[dict[str, Any]]:
    """Read the engine's table of a tomogram's particles.

    Parameters
    ----------
    csv_path
        With the columns ``label``, ``area``, ``centroid-0``, ``centroid-1``, ``centroid-2``
        (voxels z, y, x), ``tomo`` and ``semantic_class``.

    Returns
    -------
    list of dict
        One per particle: numbers as int where they are whole by nature, else float; other
        columns as text.

    Raises
    ------
    OSError, ValueError
        When there is no such file or it is not such a table.
    """
    return typed_rows(csv_path, _typed, "particles")


def typed_rows(
    csv_path: str, typed: Callable[[Mapping[str, str]], dict[str, Any]], what: str
) -> list[dict[str, Any]]:
    """Read a CSV table whose cells `typed` turns into numbers; `what` its rows are.

    Raises
    ------
    OSError, ValueError
        When there is no such file or it is not such a table.
    """
    with Path(csv_path).open(newline="", encoding="utf-8") as stream:
        try:
            return [typed(row) for row in csv.DictReader(stream)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{csv_path} is not a table of {what}: {error!r}") from error


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
    # pandas writes whole numbers with a point where a column had gaps.
    typed: dict[str, Any] = dict(row)
    for name in ("centroid-0", "centroid-1", "centroid-2"):
        typed[name] = float(row[name])
    for name in ("semantic_class", "label", "area"):
        typed[name] = int(float(row[name]))
    if "score" in row:
        typed["score"] = float(row["score"])
    return typed
