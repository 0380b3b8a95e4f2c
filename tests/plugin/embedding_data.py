"""What the tests of embeddings work on: tomograms, a model, particles of three kinds."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from scipion_projects import VOXEL_SIZE, Project

SHAPE = (32, 64, 64)
IDS = ["TS_01", "TS_02"]
#: Edge of the untrained network's input, in voxels.
PATCH = 16
BOX = 12

_WRITE_MODEL = """
import pathlib, sys, torch
from cryosiam_engine.networks import random_checkpoint
torch.save(random_checkpoint("embedding", seed=3, patch_size=16), sys.argv[1])
"""


def embedding_model() -> Path:
    """A small untrained model for embeddings."""
    from cryosiam_plugin.tests.synthetic import data_folder, run_engine_python

    path = data_folder() / "demo_embedding.ckpt"
    if not path.exists():
        partial = path.with_suffix(".part")
        run_engine_python("-c", _WRITE_MODEL, str(partial))
        partial.replace(path)
    return path


def simulation() -> Path:
    """Simulated tomograms, with the truth about them beside their folder."""
    from cryosiam_plugin.tests.synthetic import simulated_tomograms

    return simulated_tomograms(len(IDS), SHAPE).parent


def network() -> dict[str, Any]:
    """The form's values for the small model, on the CPU."""
    return {
        "modelSource": 1,
        "modelFile": str(embedding_model()),
        "useGpu": False,
        "patchSize": PATCH,
        "numberOfThreads": 3,
    }


def true_centres(ts_id: str) -> np.ndarray:
    """Centres of the simulated particles (z, y, x)."""
    with (simulation() / "truth" / f"{ts_id}_particles.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return np.array([[float(row[f"centroid-{axis}"]) for axis in range(3)] for row in rows])


def import_masks(project: Project, tomograms: Any, folder: Path) -> Any:
    """The true instances as masks of the project."""
    from tomo.protocols import ProtImportTomomasks

    folder.mkdir(parents=True, exist_ok=True)
    for ts_id in IDS:
        shutil.copy(simulation() / "truth" / f"{ts_id}_instances.mrc", folder / f"{ts_id}.mrc")
    return project.run(
        ProtImportTomomasks,
        filesPath=str(folder),
        filesPattern="TS_*.mrc",
        inputTomos=(tomograms, "Tomograms"),
    )


def import_fine(project: Project, folder: Path) -> Any:
    """The tomograms again, as if they had been binned half as much: twice as large."""
    from tomo.protocols import ProtImportTomograms

    folder.mkdir(parents=True, exist_ok=True)
    for ts_id in IDS:
        with mrcfile.open(simulation() / "tomograms" / f"{ts_id}.mrc") as mrc:
            fine = mrc.data.astype(np.float32)
        for axis in range(3):
            fine = fine.repeat(2, axis)
        with mrcfile.new(folder / f"{ts_id}.mrc", fine, overwrite=True) as mrc:
            mrc.voxel_size = VOXEL_SIZE / 2
    return project.run(
        ProtImportTomograms,
        filesPath=str(folder),
        filesPattern="TS_*.mrc",
        samplingRate=VOXEL_SIZE / 2,
    )


def import_coordinates(project: Project, fine: Any, folder: Path) -> Any:
    """The true centres as coordinates in the finer tomograms, from text files."""
    from tomo.protocols import ProtImportCoordinates3D

    folder.mkdir(parents=True, exist_ok=True)
    for ts_id in IDS:
        lines = [f"{2 * x:.0f} {2 * y:.0f} {2 * z:.0f}\n" for z, y, x in true_centres(ts_id)]
        (folder / f"{ts_id}.txt").write_text("".join(lines))
    return project.run(
        ProtImportCoordinates3D,
        filesPath=str(folder),
        filesPattern="TS_*.txt",
        boxSize=2 * BOX,
        importTomograms=(fine, "Tomograms"),
    )


def make_subtomograms(project: Project, coordinates: Any, folder: Path) -> Any:
    """Boxes around coordinates as another program's extraction would give them."""
    from pwem.protocols import ProtSubSet
    from tomo.objects import SetOfSubTomograms, SubTomogram

    protocol = project.new(ProtSubSet)
    project.scipion.saveProtocol(protocol)
    protocol.makePathsAndClean()
    source = coordinates.outputCoordinates
    made = SetOfSubTomograms.create(protocol._getPath(), template="subtomograms%s.sqlite")
    # Binned by two since they were extracted: their coordinates stay as they are.
    made.setSamplingRate(VOXEL_SIZE)
    from pyworkflow.object import Pointer

    made.setCoordinates3D(Pointer(coordinates, extended="outputCoordinates"))
    folder.mkdir(parents=True, exist_ok=True)
    for coordinate in source.iterCoordinates():
        path = folder / f"subtomogram_{coordinate.getObjId()}.mrc"
        with mrcfile.new(path, np.zeros((BOX, BOX, BOX), np.float32), overwrite=True) as mrc:
            mrc.voxel_size = VOXEL_SIZE
        item = SubTomogram()
        item.setLocation(str(path))
        item.setSamplingRate(VOXEL_SIZE)
        item.setCoordinate3D(coordinate.clone())
        item.setVolName(coordinate.getTomoId())
        item.setObjId(coordinate.getObjId())
        made.append(item)
    made.write()
    protocol._defineOutputs(subtomograms=made)
    protocol.setStatus("finished")
    project.scipion._storeProtocol(protocol)
    return protocol
