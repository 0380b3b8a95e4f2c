"""What the steps made of one tomogram, beside what is true about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.demo.workflow import PARTICLE_CLASSES, Folders
from cryosiam_engine.hdf5 import read_dataset
from cryosiam_engine.volume import read_volume

Labels = NDArray[np.integer]
Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """What is true about a tomogram, volumes `(z, y, x)`.

    Attributes
    ----------
    clean
        The sample without noise, protein bright.
    lamella
        1 inside.
    classes
        Labels as the semantic model has them.
    instances
        Particles only: vesicles are left out.
    particles
        The simulator's table, vesicles included.
    """

    clean: Grey
    lamella: Labels
    classes: Labels
    instances: Labels
    particles: pd.DataFrame


@dataclass(frozen=True)
class Found:
    """What the steps found, volumes `(z, y, x)`.

    Attributes
    ----------
    denoised
        Protein bright.
    lamella, classes, instances
        Labels.
    centres
        Of all classes: `semantic_class`, `centroid-0` to `centroid-2`.
    """

    denoised: Grey
    lamella: Labels
    classes: Labels
    instances: Labels
    centres: pd.DataFrame


def read_tomogram(folders: Folders, name: str) -> Grey:
    """The tomogram before any step, protein bright as in all that follows."""
    return -read_volume(folders.tomograms / f"{name}.mrc").data.astype(np.float32)


def read_truth(folders: Folders, name: str) -> Truth:
    """Read what :func:`~cryosiam_engine.simulation.write_simulation` wrote."""
    stem = str(folders.truth / name)
    clean, lamella, classes, instances = (
        read_volume(f"{stem}_{kind}.mrc").data
        for kind in ("clean", "lamella", "semantic", "instances")
    )
    is_particle = np.isin(classes, PARTICLE_CLASSES)
    return Truth(
        clean=clean.astype(np.float32),
        lamella=lamella,
        classes=classes,
        instances=np.where(is_particle, instances, 0).astype(np.uint32),
        particles=pd.read_csv(f"{stem}_particles.csv", dtype={"tomo": str}),
    )


def read_found(folders: Folders, name: str) -> Found:
    """Read the results of the steps up to the instances."""
    semantic = folders.result("semantic")
    instances = folders.result("instances") / f"{name}_instance_preds.h5"
    return Found(
        denoised=read_volume(folders.result("denoised") / f"{name}.mrc").data,
        lamella=read_dataset(folders.result("lamella") / f"{name}_preds.h5", "labels"),
        classes=read_dataset(semantic / f"{name}_preds.h5", "labels"),
        instances=read_dataset(instances, "instances"),
        centres=pd.read_csv(semantic / f"{name}_particles.csv", dtype={"tomo": str}),
    )


def read_clusters(folders: Folders) -> pd.DataFrame:
    """The table of all tomograms' particles: `tomo`, `label`, `cluster`."""
    path = folders.result("embeddings") / "kmeans_clusters.csv"
    return pd.read_csv(path, dtype={"tomo": str}, keep_default_na=False)
