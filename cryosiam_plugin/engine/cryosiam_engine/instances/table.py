"""What is measured of every instance, and the tables that say it: CSV, STAR, particles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray

from cryosiam_engine.files import atomic_path
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.status import FileIdentity, Output

_BOUNDS = [f"bbox-{index}" for index in range(6)]
_CENTROID = [f"centroid-{axis}" for axis in range(3)]

#: The columns of the original's table: voxels, half-open bounds and mean voxel index (z, y, x).
REGION_COLUMNS = ["label", "area", *_BOUNDS, *_CENTROID]

#: Column of our tables and its name in a STAR file, in writing order.
STAR_NAMES = {
    "label": "rlnLabel",
    "area": "rlnArea",
    **{name: f"rlnBbox-{index}" for index, name in enumerate(_BOUNDS)},
    "centroid-0": "rlnCoordinateZ",
    "centroid-1": "rlnCoordinateY",
    "centroid-2": "rlnCoordinateX",
    "tomo": "rlnMicrographName",
    "score": "rlnAutopickFigureOfMerit",
}


def measure_instances(
    instances: NDArray[np.integer], probability: NDArray[np.float32] | None = None
) -> pd.DataFrame:
    """Measure every instance.

    Parameters
    ----------
    instances
        Ids `(z, y, x)`, none larger than the number of voxels, 0 = background.
    probability
        Foreground probability `(z, y, x)`, for the scores.

    Returns
    -------
    pandas.DataFrame
        One row per instance, by id: `label`, `area` (voxels), `bbox-0` to `bbox-5` (first voxel
        and one past the last, z y x each), `centroid-0` to `centroid-2` (mean voxel index z, y,
        x) and, with `probability`, `score`: its mean over the instance's voxels.
    """
    measured = cc3d.statistics(instances, no_slice_conversion=True)
    voxels = measured["voxel_counts"].astype(np.int64)
    labels = np.flatnonzero(voxels[1:]) + 1
    # As the library has them: first and last voxel of each axis in turn.
    bounds = measured["bounding_boxes"][labels].astype(np.int64).reshape(-1, 3, 2)
    columns: dict[str, Any] = {"label": labels, "area": voxels[labels]}
    columns |= {f"bbox-{axis}": bounds[:, axis, 0] for axis in range(3)}
    columns |= {f"bbox-{axis + 3}": bounds[:, axis, 1] + 1 for axis in range(3)}
    columns |= {f"centroid-{axis}": measured["centroids"][labels, axis] for axis in range(3)}
    if probability is not None:
        sums = _sums(instances, probability, voxels.size)
        columns["score"] = sums[labels] / np.maximum(voxels[labels], 1)
    return pd.DataFrame(columns)


def _sums(
    instances: NDArray[np.integer], values: NDArray[np.float32], n_ids: int
) -> NDArray[np.float64]:
    """Sum `values` over the voxels of every id."""
    sums = np.zeros(n_ids)
    for part in slabs(instances.shape):
        inside = instances[part] > 0
        ids = instances[part][inside].astype(np.int64)
        if ids.size:
            sums += np.bincount(ids, weights=values[part][inside], minlength=n_ids)
    return sums


def voxel_volume(voxel_size: tuple[float, float, float] | None) -> float | None:
    """The volume of a voxel in nm³, or None where the size (Å, x y z) is not known."""
    return math.prod(voxel_size) / 1000 if voxel_size and all(voxel_size) else None


def summarise(table: pd.DataFrame, nm3_per_voxel: float | None) -> dict[str, Any]:
    """How many instances there are and how large, as JSON values.

    Diameters (voxels) are those of balls with the instances' volumes.

    Parameters
    ----------
    table
        Of :func:`measure_instances`.
    nm3_per_voxel
        Of :func:`voxel_volume`.
    """
    summary: dict[str, Any] = {"n_instances": len(table)}
    if table.empty:
        return summary
    median = float(table["area"].median())
    summary["median_volume_voxels"] = median
    if nm3_per_voxel:
        summary["median_volume_nm3"] = median * nm3_per_voxel
    summary["median_diameter"] = _diameter(median)
    summary["max_diameter"] = _diameter(float(table["area"].max()))
    return summary


def _diameter(volume: float) -> float:
    return float((6 * volume / math.pi) ** (1 / 3))


def particles_file(folder: Path, stem: str) -> Path:
    """The table of one tomogram's particles."""
    return folder / f"{stem}_particles.csv"


def write_tables(
    table: pd.DataFrame, folder: Path, stem: str, nm3_per_voxel: float | None
) -> list[Output]:
    """Write the tables of one tomogram's instances.

    They are ``<stem>_particles.csv`` (all that is known, for other programs),
    ``<stem>_instance_regions.csv`` (just as the original writes it) and
    ``<stem>_instance_regions.star``. A volume or score that is not known has no column.

    Parameters
    ----------
    table
        Of :func:`measure_instances`.
    folder, stem
        Where the files go and how they begin.
    nm3_per_voxel
        Of :func:`voxel_volume`.

    Returns
    -------
    list of Output
        The three files, of the kinds ``particles``, ``regions`` and ``star``.

    Raises
    ------
    OutputError
        When a file cannot be written.
    """
    named = table.assign(tomo=stem)
    if nm3_per_voxel:
        named = named.assign(volume_nm3=named["area"] * nm3_per_voxel)
    wanted = ["label", "area", "volume_nm3", *_BOUNDS, *_CENTROID, "score", "tomo"]
    particles = particles_file(folder, stem)
    with atomic_path(particles) as partial:
        named[[name for name in wanted if name in named]].to_csv(partial, index=False)
    regions = folder / f"{stem}_instance_regions.csv"
    with atomic_path(regions) as partial:
        as_original = table[REGION_COLUMNS].astype({"area": np.float64})
        as_original.to_csv(partial, index=False, lineterminator="\r\n")
    star = folder / f"{stem}_instance_regions.star"
    with atomic_path(star) as partial:
        present = [name for name in STAR_NAMES if name in named]
        starfile.write(named[present].rename(columns=STAR_NAMES), partial)
    kinds = {"particles": particles, "regions": regions, "star": star}
    return [Output(FileIdentity.of(path), kind, (len(table),)) for kind, path in kinds.items()]


def read_table(folder: Path, stem: str) -> pd.DataFrame | None:
    """The instances in ``<stem>_particles.csv``; None where there is no such table.

    Another command's particles may lie under this name: then there is none either.
    """
    try:
        table = pd.read_csv(particles_file(folder, stem))
    except (OSError, ValueError):
        return None
    scores = [name for name in ("score",) if name in table]
    return table[[*REGION_COLUMNS, *scores]] if set(REGION_COLUMNS) <= set(table) else None
