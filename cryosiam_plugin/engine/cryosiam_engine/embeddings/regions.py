"""Which instances of a tomogram are embedded, and where they lie: the table of regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cryosiam_engine.embeddings.patches import Box, Shape
from cryosiam_engine.errors import MaskError
from cryosiam_engine.instances.table import REGION_COLUMNS, read_table

_NUMBERS = {
    name: np.float64 if name[:8] in ("area", "centroid") else np.int64 for name in REGION_COLUMNS
}


def regions_file(folder: Path, stem: str, suffix: str = "") -> Path:
    """The table of one tomogram's instances."""
    return folder / f"{stem}_instance_regions{suffix}.csv"


def read_regions(path: Path, shape: Shape) -> pd.DataFrame:
    """Read a table of regions.

    Parameters
    ----------
    path
        CSV with `label`, `area` (voxels), `bbox-0` to `bbox-5` (first voxel and one past the
        last, z y x each), `centroid-0` to `centroid-2`; other columns may be there. A file
        without any line has no regions.
    shape
        Of the instances (z, y, x).

    Returns
    -------
    pandas.DataFrame
        All columns, rows in the file's order.

    Raises
    ------
    MaskError
        When it is no such table, or a box lies outside the volume.
    """
    try:
        table = pd.read_csv(path, float_precision="round_trip")
        table = table.astype(_NUMBERS)
    except pd.errors.EmptyDataError:
        return pd.DataFrame({name: np.empty(0, _NUMBERS[name]) for name in REGION_COLUMNS})
    except (OSError, ValueError, KeyError) as error:
        raise MaskError(
            f"{path} is no table of regions: {error}.",
            remedy="Remove it (the instances are then measured), or run instance_predict again.",
        ) from error
    for row, box in zip(table["label"], boxes_of(table), strict=True):
        if not box.lies_in(shape):
            raise MaskError(
                f"{path}: the box of instance {row}, {box.start} to {box.stop} (z, y, x), is not "
                f"in the volume of {shape} voxels.",
                remedy="The table belongs to other instances: remove it, or run "
                "instance_predict again.",
            )
    return table


def with_scores(table: pd.DataFrame, folder: Path, stem: str) -> pd.DataFrame:
    """Add the column `score` where instance_predict left scores of just these instances."""
    particles = read_table(folder, stem)
    if "score" in table or particles is None or "score" not in particles:
        return table
    scores = particles.drop_duplicates("label").set_index("label")
    known = scores.reindex(table["label"])
    if not np.array_equal(known["area"], table["area"]):
        return table
    return table.assign(score=known["score"].to_numpy())


def select_by_size(table: pd.DataFrame, low: float | None, high: float | None) -> pd.DataFrame:
    """Leave out regions of less than `low` or more than `high` voxels; 0 or None is no limit."""
    keep = np.ones(len(table), bool)
    if low:
        keep &= table["area"].to_numpy() >= low
    if high:
        keep &= table["area"].to_numpy() <= high
    return table[keep].reset_index(drop=True)


def boxes_of(table: pd.DataFrame) -> list[Box]:
    """The bounding box of each region."""
    bounds = table[[f"bbox-{index}" for index in range(6)]].to_numpy(np.int64)
    return [Box((z0, y0, x0), (z1, y1, x1)) for z0, y0, x0, z1, y1, x1 in bounds.tolist()]
