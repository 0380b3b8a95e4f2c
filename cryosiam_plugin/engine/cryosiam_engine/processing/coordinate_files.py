"""Reading particle coordinates from CSV and STAR files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.particles_table import tomogram_stem
from cryosiam_engine.processing.coordinates import Coordinates

logger = logging.getLogger(__name__)

_CSV = ("centroid-2", "centroid-1", "centroid-0")
_PIXELS = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
_CENTRED = tuple(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ")
_SHIFTS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_SHIFTS_IN_PIXELS = ("rlnOriginX", "rlnOriginY", "rlnOriginZ")
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_BOX_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_NAMES = ("tomo", "rlnTomoName", "rlnMicrographName")
#: The last two are not RELION's, but what CryoSiam's users have.
_CLASSES = ("semantic_class", "rlnClassNumber", "rlnClassNum", "rlnClass")


def read_coordinates(path: str | Path) -> Coordinates:
    """Read particle coordinates from a CSV or STAR file, told apart by what is in them.

    CSV has the columns `centroid-0`, `centroid-1`, `centroid-2` (z, y, x in voxels) and perhaps
    `tomo` and `semantic_class`. STAR has `rlnCoordinateX/Y/Z` (pixels) or RELION 5's
    `rlnCenteredCoordinateX/Y/ZAngst`, and perhaps `rlnTomoName` or `rlnMicrographName`,
    `rlnClassNumber`, `rlnOriginX/Y/ZAngst`, `rlnAngleRot/Tilt/Psi` and
    `rlnTomoSubtomogramRot/Tilt/Psi`. As in RELION, a position is the coordinate minus the origin
    shift, which is along the axes of the extracted box.

    Parameters
    ----------
    path
        The file; of a STAR file with several blocks the one named `particles` counts.

    Raises
    ------
    ConfigurationError
        When the file is missing or unreadable, lacks coordinates, or has some that are no
        numbers.
    """
    path = Path(path)
    is_star = _is_star(path)
    table = _star_table(path) if is_star else _csv_table(path)
    columns, centred = _coordinate_columns(table, is_star, path)
    if _has(table, _SHIFTS_IN_PIXELS):
        logger.warning(
            "%s has shifts in pixels (rlnOriginX), as RELION before 3.1 wrote them; they are not "
            "applied. Convert the file with relion_convert_star.",
            path,
        )
    boxes = _rotations(table, _BOX_ANGLES, path)
    shifts = _numbers(table, _SHIFTS, path) if _has(table, _SHIFTS) else np.zeros((len(table), 3))
    if boxes is not None:
        shifts = boxes.inv().apply(shifts)
    particles = _rotations(table, _ANGLES, path)
    if particles is not None and boxes is not None:
        particles = particles * boxes
    return Coordinates(
        path,
        _numbers(table, columns, path),
        centred,
        shifts,
        _tomograms(table),
        _classes(table, path),
        particles,
    )


def _is_star(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return any(line.startswith("data_") for line in lines)
    except OSError as error:
        raise _unreadable(path, error) from error


def _csv_table(path: Path) -> pd.DataFrame:
    try:
        # "NA" is a possible name of a tomogram.
        return pd.read_csv(path, dtype={"tomo": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _star_table(path: Path) -> pd.DataFrame:
    try:
        blocks: dict[str, Any] = starfile.read(path, always_dict=True, parse_as_string=list(_NAMES))
    except (OSError, ValueError, LookupError) as error:
        raise _unreadable(path, error) from error
    tables = {name: block for name, block in blocks.items() if isinstance(block, pd.DataFrame)}
    if "particles" not in tables and len(tables) != 1:
        raise ConfigurationError(
            f"The STAR file {path} has {len(tables)} tables and none is named particles.",
            remedy="Give a STAR file with one table, or with a block data_particles.",
        )
    return tables["particles"] if "particles" in tables else next(iter(tables.values()))


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"The coordinates file {path} cannot be read: {error}",
        remedy="Give the path of a CSV or STAR file with particle coordinates.",
    )


def _has(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    return all(name in table.columns for name in columns)


def _coordinate_columns(
    table: pd.DataFrame, is_star: bool, path: Path
) -> tuple[tuple[str, ...], bool]:
    """Columns of x, y, z, and whether they are in Å from the tomogram's middle.

    A file with both kinds is RELION 5's, where the centred ones count.
    """
    candidates = ((_CENTRED, True), (_PIXELS, False)) if is_star else ((_CSV, False),)
    for columns, centred in candidates:
        if _has(table, columns):
            return columns, centred
    wanted = " or ".join(", ".join(columns) for columns, _ in candidates)
    raise ConfigurationError(
        f"{path} lacks the columns of coordinates: {wanted}.",
        remedy="Export the particles from RELION, or write a CSV file with these columns.",
    )


def _numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> NDArray[np.float64]:
    numbers = table[list(columns)].apply(pd.to_numeric, errors="coerce")
    values = numbers.to_numpy(np.float64, copy=True)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ConfigurationError(
            f"{path} has {int(bad.sum())} rows where {', '.join(columns)} are not numbers, the "
            f"first is row {int(bad.argmax()) + 1}.",
            remedy="Correct or remove these rows.",
        )
    return values


def _rotations(table: pd.DataFrame, columns: Sequence[str], path: Path) -> Rotation | None:
    """RELION's angles as rotations from the outer frame to the inner one."""
    if not _has(table, columns) or table.empty:
        return None
    return Rotation.from_euler("ZYZ", _numbers(table, columns, path), degrees=True)


def _tomograms(table: pd.DataFrame) -> NDArray[np.str_] | None:
    present = [name for name in _NAMES if name in table.columns]
    if not present:
        return None
    return np.asarray([tomogram_stem(str(name)) for name in table[present[0]]], dtype=np.str_)


def _classes(table: pd.DataFrame, path: Path) -> NDArray[np.int64] | None:
    present = [name for name in _CLASSES if name in table.columns]
    if not present:
        return None
    values = pd.to_numeric(table[present[0]], errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values) | (values != np.rint(values))
    # RELION's own class of a particle may be anything: only commands that use it are strict.
    return np.where(bad, 0, values).astype(np.int64)
