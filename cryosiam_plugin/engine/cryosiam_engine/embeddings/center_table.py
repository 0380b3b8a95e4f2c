"""The table of particle centres: read, checked, and numbered where it has no labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import starfile

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import atomic_path
from cryosiam_engine.particles_table import STAR_NAMES, read_particles

_FIRST = ["label", "area"]


def read_centers(path: Path, edge: int) -> tuple[pd.DataFrame, bool]:
    """Read the centres of all tomograms.

    Parameters
    ----------
    path
        CSV or STAR file.
    edge
        Voxels of the edge of the cubes around them.

    Returns
    -------
    table : pandas.DataFrame
        `label` (from 1 through the whole table where the file has none), `area` (the volume of
        the cube in voxels where the file has none), `centroid-0` to `centroid-2` (voxels z, y,
        x), `tomo`, and what else the file says of the particles.
    has_labels : bool
        Whether the labels are the file's own.

    Raises
    ------
    ConfigurationError
        When the file cannot be read, lacks a column, or a value is not a number.
    """
    table = read_particles(path)
    has_labels = "label" in table
    if not has_labels:
        table["label"] = np.arange(1, len(table) + 1)
    if "area" not in table:
        table["area"] = edge**3
    table["label"] = _whole_numbers(table["label"], path)
    others = [name for name in table.columns if name not in _FIRST]
    return table[[*_FIRST, *others]], has_labels


def write_labelled(table: pd.DataFrame, source: Path, folder: Path) -> Path:
    """Write the numbered centres to ``centers_with_labels``, CSV or STAR as their source.

    Parameters
    ----------
    table
        Of :func:`read_centers`.
    source
        The file it was read from.
    folder
        Where the file goes.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    star = source.suffix.lower() == ".star"
    path = folder / f"centers_with_labels{'.star' if star else '.csv'}"
    with atomic_path(path) as partial:
        if star:
            starfile.write(table.rename(columns=STAR_NAMES), partial)
        else:
            table.to_csv(partial, index=False)
    return path


def _whole_numbers(labels: pd.Series, path: Path) -> pd.Series:
    numbers = pd.to_numeric(labels, errors="coerce").astype(np.float64)
    bad = ~np.isfinite(numbers) | (numbers != np.round(numbers))
    if bad.any():
        raise ConfigurationError(
            f"The column {labels.name} of {path} has {int(bad.sum())} values that are not whole "
            f"numbers, the first in row {int(bad.argmax()) + 1}.",
            remedy="Correct them, or remove the column: particles are then numbered from 1 on.",
        )
    return numbers.astype(np.int64)
