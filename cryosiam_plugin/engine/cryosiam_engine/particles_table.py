"""Tables of particles: CSV and STAR with the original's columns, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import atomic_path

#: Column in our tables (voxel indices z, y, x) and its name in a STAR file, in writing order.
STAR_NAMES = {
    "label": "rlnLabel",
    "area": "rlnArea",
    "centroid-0": "rlnCoordinateZ",
    "centroid-1": "rlnCoordinateY",
    "centroid-2": "rlnCoordinateX",
    "tomo": "rlnMicrographName",
}

_COORDINATES = ("centroid-0", "centroid-1", "centroid-2")
_OPTIONAL = ("label", "area", "semantic_class")

#: Names under which STAR files of this field carry our columns; the first one present counts.
_STAR_ALIASES = {
    **{column: (name,) for column, name in STAR_NAMES.items()},
    "tomo": ("rlnMicrographName", "rlnTomoName"),
    "semantic_class": ("rlnClass", "rlnClassNumber"),
}

#: What may be cut from a micrograph name. Only these: a stem may itself contain dots.
_VOLUME_SUFFIXES = frozenset(
    {".mrc", ".mrcs", ".rec", ".map", ".st", ".ali", ".em", ".hdf", ".h5", ".tomostar"}
)
_COMPRESSION_SUFFIXES = frozenset({".gz", ".bz2"})


def write_class_tables(
    tables_by_class: Mapping[int, pd.DataFrame], folder: str | Path
) -> list[Path]:
    """Write each class's particles: `labels_<class>.csv` and `labels_<class>_particles.star`.

    Parameters
    ----------
    tables_by_class
        For each class a table with the columns `label`, `area`, `centroid-0`, `centroid-1`,
        `centroid-2` (voxel indices z, y, x) and `tomo`. Rows are written in their order; a table
        without rows gives files with headings only.
    folder
        Where the files go. Existing ones are replaced.

    Returns
    -------
    list[Path]
        The files, CSV and STAR of each class in turn.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    written = []
    for class_index, table in tables_by_class.items():
        table = table[list(STAR_NAMES)]
        csv = Path(folder) / f"labels_{class_index}.csv"
        with atomic_path(csv) as partial:
            table.to_csv(partial, index=False, lineterminator="\n")
        star = Path(folder) / f"labels_{class_index}_particles.star"
        with atomic_path(star) as partial:
            starfile.write(table.rename(columns=STAR_NAMES), partial)
        written += [csv, star]
    return written


def merge_tables(existing_csv: str | Path, new: pd.DataFrame, tomograms: set[str]) -> pd.DataFrame:
    """Put the particles of some tomograms into an earlier table of one class.

    Parameters
    ----------
    existing_csv
        The earlier `labels_<class>.csv`; may be absent.
    new
        Particles found now, with the same columns.
    tomograms
        Names of the tomograms searched now: their earlier rows go, also where nothing was found.

    Returns
    -------
    pandas.DataFrame
        Earlier rows of other tomograms and all new rows, sorted by `tomo`, then `label`.

    Raises
    ------
    ConfigurationError
        When the earlier file is not such a table.
    """
    path = Path(existing_csv)
    merged = new[list(STAR_NAMES)]
    if path.exists():
        earlier = _read_csv(path)
        _require_columns(earlier.columns, tuple(STAR_NAMES), path)
        kept = earlier.loc[~earlier["tomo"].isin(tomograms), list(STAR_NAMES)]
        # An empty table has no numeric types to keep: it must not spoil the other's.
        parts = [part for part in (kept, merged) if len(part)]
        merged = pd.concat(parts) if parts else merged
    return merged.sort_values(["tomo", "label"], kind="stable", ignore_index=True)


def read_particles(path: str | Path) -> pd.DataFrame:
    """Read particle positions from a CSV or STAR file.

    STAR files are recognised by the suffix `.star`, CSV files by `.csv`, others by their
    content. Of a STAR file with several blocks the one named `particles` counts.

    Parameters
    ----------
    path
        CSV with the columns `centroid-0`, `centroid-1`, `centroid-2`, `tomo`, or STAR with
        `rlnCoordinateZ`, `rlnCoordinateY`, `rlnCoordinateX` and `rlnMicrographName` or
        `rlnTomoName`. Coordinates are in voxels. Other columns may be there.

    Returns
    -------
    pandas.DataFrame
        `centroid-0`, `centroid-1`, `centroid-2` (float, voxel indices z, y, x), `tomo` (name
        without folder and extension) and, where the file has them, `label`, `area` and
        `semantic_class` (STAR: `rlnLabel`, `rlnArea`, and `rlnClass` or `rlnClassNumber`).

    Raises
    ------
    ConfigurationError
        When the file is missing or unreadable, lacks a column, or has coordinates that are not
        numbers.
    """
    source = Path(path)
    table = _read_star(source) if _is_star(source) else _read_csv(source)
    _require_columns(table.columns, (*_COORDINATES, "tomo"), source)
    optional = [name for name in _OPTIONAL if name in table.columns]
    table = table[[*_COORDINATES, "tomo", *optional]].reset_index(drop=True)
    for column in _COORDINATES:
        table[column] = _numbers(table[column], source)
    table["tomo"] = table["tomo"].astype(str).map(tomogram_stem)
    return table


def tomogram_stem(name: str) -> str:
    """Reduce a micrograph name to the tomogram's stem: no folder, no volume extension.

    Examples
    --------
    >>> tomogram_stem("tomograms/TS_56_6.80Apx.mrc")
    'TS_56_6.80Apx'
    >>> tomogram_stem("TS_56_6.80Apx")
    'TS_56_6.80Apx'
    """
    file = Path(name)
    if file.suffix.lower() in _COMPRESSION_SUFFIXES:
        file = file.with_suffix("")
    return file.stem if file.suffix.lower() in _VOLUME_SUFFIXES else file.name


def _is_star(path: Path) -> bool:
    if path.suffix.lower() in (".star", ".csv"):
        return path.suffix.lower() == ".star"
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as lines:
        return any(line.startswith("data_") for line in lines)


def _read_csv(path: Path) -> pd.DataFrame:
    # "NA" is a possible name of a tomogram, and numbers shall survive reading and writing.
    return _parse(
        path,
        pd.read_csv,
        dtype={"tomo": str},
        keep_default_na=False,
        float_precision="round_trip",
    )


def _read_star(path: Path) -> pd.DataFrame:
    blocks = _parse(
        path, starfile.read, always_dict=True, parse_as_string=list(_STAR_ALIASES["tomo"])
    )
    tables = {name: block for name, block in blocks.items() if isinstance(block, pd.DataFrame)}
    if "particles" not in tables and len(tables) != 1:
        raise ConfigurationError(
            f"The STAR file {path} has {len(tables)} tables and none is named particles.",
            remedy="Give a STAR file with one table, or with a block data_particles.",
        )
    table = tables["particles"] if "particles" in tables else next(iter(tables.values()))
    names = {}
    for column, aliases in _STAR_ALIASES.items():
        present = [alias for alias in aliases if alias in table.columns]
        names.update(dict.fromkeys(present[:1], column))
    return table.rename(columns=names)


def _parse(path: Path, reader: Callable[..., Any], **options: Any) -> Any:
    try:
        return reader(path, **options)
    except (OSError, ValueError, LookupError) as error:
        raise ConfigurationError(
            f"The particle table {path} cannot be read: {error}",
            remedy="Give the path of a CSV or STAR file with particle coordinates.",
        ) from error


def _require_columns(present: pd.Index, wanted: tuple[str, ...], path: Path) -> None:
    missing = [name for name in wanted if name not in present]
    if not missing:
        return
    star = ", ".join(f"{STAR_NAMES[name]}" for name in missing)
    raise ConfigurationError(
        f"The particle table {path} lacks the columns {', '.join(missing)} (in STAR: {star}).",
        remedy="Coordinates are expected in voxels of the tomogram, with the tomogram's name "
        "in tomo (CSV), rlnMicrographName or rlnTomoName (STAR).",
    )


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce").astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ConfigurationError(
            f"The column {column.name} of {path} has {int(bad.sum())} values that are not "
            f"numbers, the first in row {int(bad.argmax()) + 1}.",
            remedy="Correct or remove these rows.",
        )
    return values
