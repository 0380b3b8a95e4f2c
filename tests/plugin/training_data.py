"""Small trainings in real projects: tomograms with masks, and a form for a network that learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from scipion_projects import VOXEL_SIZE, Project

#: Label values of the simulator that are there in small tomograms, in the order of our classes.
LABELS = (3, 4)
CLASSES = {1: "proteasome", 2: "rubisco"}
NAMES = "proteasome, rubisco"


def write_training_data(folder: Path, simulated: Path) -> Path:
    """What is true of simulated tomograms as ``tomograms`` to learn from and their ``masks``."""
    truth = simulated.parent / "truth"
    for path in sorted(truth.glob("*_clean.mrc")):
        ts_id = path.name[: -len("_clean.mrc")]
        rng = np.random.default_rng(0)
        clean = mrcfile.read(path)
        noisy = clean + 0.05 * rng.standard_normal(clean.shape)
        write(folder / "tomograms" / f"{ts_id}.mrc", np.clip(noisy, 0, 1).astype(np.float32))
        labels = mrcfile.read(truth / f"{ts_id}_semantic.mrc")
        mask = np.zeros(labels.shape, np.int8)
        for number, label in enumerate(LABELS, 1):
            mask[labels == label] = number
        write(folder / "masks" / f"{ts_id}.mrc", mask)
    return folder


def write(path: Path, volume: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(volume)
        mrc.set_volume()
        mrc.voxel_size = VOXEL_SIZE


def import_masks(project: Project, tomograms: Any, folder: Path) -> Any:
    """The masks of a folder as Scipion's own protocol imports them: they name no classes."""
    from tomo.protocols import ProtImportTomomasks

    return project.run(
        ProtImportTomomasks,
        filesPath=str(folder),
        filesPattern="*.mrc",
        inputTomos=(tomograms, "Tomograms"),
    )


def training(project: Project, tomograms: Any, masks: Any, **parameters: Any) -> Any:
    """A training of a new, small network that takes seconds, on the CPU."""
    from cryosiam_plugin.protocols import ProtCryosiamTrainSemantic

    chosen: dict[str, Any] = {
        "inputTomograms": (tomograms, "Tomograms"),
        "inputMasks": (masks, "tomomasks"),
        "classNames": NAMES,
        "startFrom": 1,
        "useGpu": False,
        "patchSize": 32,
        "batchSize": 2,
        "patchesPerEpoch": 8,
        "validationPatches": 4,
        "maxEpochs": 2,
        "rotation": 0,
        **parameters,
    }
    return project.new(ProtCryosiamTrainSemantic, **chosen)


def log_dir(protocol: Any) -> Path:
    """Where the engine writes, for a test whose working folder is the project's."""
    return Path(protocol._getExtraPath("training"))
