"""From a table of particles and their tomograms to the page of their map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.clustering.map_request import MapRequest
from cryosiam_engine.embeddings.patches import Box, Shape, cubes_around, cut_patch
from cryosiam_engine.errors import EngineError
from cryosiam_engine.map_page import MapData, Thumbnails, write_map
from cryosiam_engine.volume import read_volume

logger = logging.getLogger(__name__)

_CENTROID = ["centroid-0", "centroid-1", "centroid-2"]

#: Columns of a table of particles that name something, and how the page calls them.
_CATEGORIES = {
    "semantic_class": "class",
    "semantic_class_2": "class 2",
    "class_name": "class",
    "tomo": "tomogram",
}
#: Columns that are measures.
_NUMBERS = {
    "label": "label",
    "area": "size (voxels)",
    "score": "score",
    "distance_to_center": "distance to cluster centre",
}
#: What a column of clusters is called on the page begins with this.
CLUSTER = "cluster"


def page_writer(
    data_folder: Path | None, file_extension: str, patch_size: Shape, subtitle: str = ""
) -> Callable[[MapRequest], list[Path]]:
    """Make the function that writes pages with pictures from these tomograms.

    Parameters
    ----------
    data_folder
        Where the tomograms lie; None for a map without pictures.
    file_extension
        Of the tomograms.
    patch_size
        Voxels (z, y, x) around a particle that its picture shows.
    subtitle
        Below the page's title.
    """

    def write(request: MapRequest) -> list[Path]:
        table = request.table.reset_index(drop=True)
        data = MapData(
            coordinates=flat_maps(request.coordinates),
            rows=_rows(table),
            categories=_categories(table, request.color_by),
            numbers={
                title: pd.to_numeric(table[column], errors="coerce").to_numpy(np.float32)
                for column, title in _NUMBERS.items()
                if column in table
            },
            title=request.title,
            subtitle=subtitle,
        )
        if data_folder is None or not set(_CENTROID) <= set(table.columns) or "tomo" not in table:
            return write_map(request.path, data)
        with Thumbnails.from_patches(
            _patches(table, data_folder, file_extension, patch_size)
        ) as pictures:
            data.thumbnails = pictures
            return write_map(request.path, data)

    return write


def flat_maps(coordinates: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Maps that a page can draw: one of three dimensions is seen along each axis."""
    flat = {}
    for name, points in coordinates.items():
        if points.shape[1] == 2:
            flat[name] = points
            continue
        for first, second in ((0, 1), (0, 2), (1, 2)):
            flat[f"{name} {first + 1}, {second + 1}"] = points[:, [first, second]]
    return flat


def _rows(table: pd.DataFrame) -> NDArray[np.integer]:
    return table["row"].to_numpy(np.int64) if "row" in table else np.arange(len(table))


def _categories(table: pd.DataFrame, first: str | None) -> dict[str, Sequence[str]]:
    """Everything that names something; what colours the page at first comes first."""
    clusters = [column for column in table.columns if column.startswith(CLUSTER)]
    columns = dict.fromkeys([*([first] if first else []), *clusters, *_CATEGORIES])
    return {
        _CATEGORIES.get(column, column): [_name(value) for value in table[column]]
        for column in columns
        if column in table and column not in _NUMBERS
    }


def _name(value: object) -> str:
    """A class as text: whole numbers without a point, cluster 0 and gaps as "none"."""
    if isinstance(value, (int, np.integer)) and value == 0:
        return "none"
    if isinstance(value, (float, np.floating)):
        return "none" if not np.isfinite(value) or value == 0 else f"{value:g}"
    return str(value)


def _patches(
    table: pd.DataFrame, folder: Path, extension: str, patch_size: Shape
) -> Iterator[NDArray[np.float32] | None]:
    """The particles' neighbourhoods in the order of the table, one tomogram in memory at a time."""
    # Consecutive rows of one tomogram: a tomogram is read once where the table is sorted.
    runs = (table["tomo"] != table["tomo"].shift()).cumsum()
    for _, rows in table.groupby(runs, sort=True):
        volume = _tomogram(folder / f"{rows['tomo'].iloc[0]}{extension}")
        middles = cubes_around(rows[_CENTROID].to_numpy(np.float64), 1)
        for z, y, x in (middles - np.array(patch_size) // 2).tolist():
            if volume is None:
                yield None
                continue
            box = Box((z, y, x), (z + patch_size[0], y + patch_size[1], x + patch_size[2]))
            yield cut_patch(volume, box, patch_size)


def _tomogram(path: Path) -> NDArray[Any] | None:
    try:
        return read_volume(path).data
    except EngineError as error:
        logger.warning("No pictures of the particles in %s: %s", path, error)
        return None
