"""Tables of particle regions: read by column name, written as CSV and STAR."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import starfile

from cryosiam_engine.errors import MaskError
from cryosiam_engine.files import atomic_path
from cryosiam_engine.particles_table import STAR_NAMES

_STAR_COLUMNS = {
    **STAR_NAMES,
    **{f"bbox-{i}": f"rlnBbox-{i}" for i in range(6)},
    "semantic_class": "rlnClass",
}
_FROM_STAR = {
    **{star: column for column, star in _STAR_COLUMNS.items()},
    "rlnClassNumber": "semantic_class",
}


def read_regions(path: Path) -> pd.DataFrame:
    """Read a table of regions, CSV or (by its suffix) STAR.

    Parameters
    ----------
    path
        A table with the column ``label`` (STAR: ``rlnLabel``), wherever it stands. Other columns
        may hold numbers or text.

    Returns
    -------
    pandas.DataFrame
        Columns under the CSV's names; numbers as they were written.

    Raises
    ------
    MaskError
        When the file is missing, is no table, or has no labels.
    """
    try:
        if path.suffix == ".star":
            table = starfile.read(path).rename(columns=_FROM_STAR)
        else:
            table = pd.read_csv(path, dtype={"tomo": str}, float_precision="round_trip")
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise MaskError(
            f"The table of regions {path} cannot be read: {error}.",
            remedy="Run simsiam_embeddings_predict again, or correct visualization_suffix.",
        ) from error
    if "label" not in table.columns:
        raise MaskError(
            f"The table of regions {path} has no column of labels; it has: "
            f"{', '.join(map(str, table.columns))}.",
            remedy="Name it label (CSV) or rlnLabel (STAR).",
        )
    return table


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV, atomically; returns `path`."""
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    return path


def write_star(path: Path, table: pd.DataFrame) -> Path:
    """Write a table of regions as STAR, with RELION's names where it has some; returns `path`."""
    with atomic_path(path) as partial:
        starfile.write(table.rename(columns=_STAR_COLUMNS), partial)
    return path
