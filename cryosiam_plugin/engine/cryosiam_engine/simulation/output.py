"""The files of a simulated tomogram."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import starfile

from cryosiam_engine.files import atomic_path, write_text
from cryosiam_engine.simulation.simulator import SimulatedTomogram
from cryosiam_engine.volume import write_mrc

logger = logging.getLogger(__name__)

#: Columns of the STAR file and where they come from.
STAR_COLUMNS = {
    "label": "rlnLabel",
    "area": "rlnArea",
    "centroid-0": "rlnCoordinateZ",
    "centroid-1": "rlnCoordinateY",
    "centroid-2": "rlnCoordinateX",
    "rot": "rlnAngleRot",
    "tilt": "rlnAngleTilt",
    "psi": "rlnAnglePsi",
    "semantic_class": "rlnClassNumber",
    "tomo": "rlnMicrographName",
}
#: The semantic class of membranes; the species follow.
MEMBRANE = 1


def write_simulation(simulation: SimulatedTomogram, folder: str | Path) -> list[Path]:
    """Write a simulated tomogram and its truth.

    ``tomograms/<name>.mrc`` is what a user would have; ``truth/`` holds ``<name>_semantic.mrc``,
    ``_instances.mrc``, ``_lamella.mrc`` and ``_clean.mrc``, ``_particles.csv`` (all objects),
    ``_particles.star`` (without the vesicles, which have no orientation) and ``_classes.json``.

    Parameters
    ----------
    simulation
        The tomogram.
    folder
        Where to write; made if absent. Files of the same name are replaced.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    OutputError
        When the system refuses to write.
    """
    truth = Path(folder) / "truth"
    name = simulation.name
    volumes = {
        Path(folder) / "tomograms" / f"{name}.mrc": _as_written(simulation),
        truth / f"{name}_semantic.mrc": simulation.semantic,
        truth / f"{name}_instances.mrc": simulation.instances,
        truth / f"{name}_lamella.mrc": simulation.lamella,
        truth / f"{name}_clean.mrc": simulation.clean,
    }
    edge = simulation.settings.voxel_size
    for path, volume in volumes.items():
        write_mrc(path, volume, voxel_size=(edge, edge, edge))
    tables = _write_tables(simulation, truth / name)
    logger.info("%s: written to %s.", name, folder)
    return [*volumes, *tables]


def _as_written(simulation: SimulatedTomogram) -> npt.NDArray[np.generic]:
    """Scale to the integer type so that zero stays zero and nothing is cut off."""
    tomogram, dtype = simulation.tomogram, simulation.settings.dtype
    if dtype == "float32":
        return tomogram
    scale = np.iinfo(dtype).max / np.abs(tomogram).max()
    return np.rint(tomogram * scale).astype(dtype)


def _write_tables(simulation: SimulatedTomogram, stem: Path) -> list[Path]:
    table = stem.with_name(f"{stem.name}_particles.csv")
    star = stem.with_name(f"{stem.name}_particles.star")
    classes = stem.with_name(f"{stem.name}_classes.json")
    write_text(table, simulation.particles.to_csv(index=False, lineterminator="\n"))
    with atomic_path(star) as partial:
        starfile.write(_star_table(simulation.particles), partial)
    write_text(classes, json.dumps(simulation.class_names, indent=2) + "\n")
    return [table, star, classes]


def _star_table(particles: pd.DataFrame) -> pd.DataFrame:
    oriented = particles[particles["semantic_class"] != MEMBRANE]
    return oriented[list(STAR_COLUMNS)].rename(columns=STAR_COLUMNS)
