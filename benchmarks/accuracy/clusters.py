"""Do clusters of instances agree with species? Of embeddings, and of simpler descriptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from baselines import kmeans_of_components
from cryosiam_engine.demo.results import Found, Truth, read_found, read_truth
from cryosiam_engine.demo.scoring import true_kinds
from cryosiam_engine.demo.workflow import PARTICLE_CLASSES
from cryosiam_engine.embeddings.instance_patches import CONVEX_HULL, InstanceCutter
from cryosiam_engine.embeddings.regions import boxes_of
from cryosiam_engine.instances.table import measure_instances
from cryosiam_engine.scores import cluster_agreement
from names import OURS
from numpy.typing import NDArray
from samples import TRUE_EMBEDDINGS, Level

PATCH = (32, 32, 32)


def score_clusters(level: Level, embeddings: str) -> dict[str, float]:
    """Agreement with the species of clusters of the very instances that were embedded.

    Parameters
    ----------
    level
        Tomograms of one noise level.
    embeddings
        The step whose clusters are judged. Those of the true instances are described by the same
        true instances in all methods.

    Returns
    -------
    dict
        Adjusted Rand index by method.
    """
    path = level.folders.result(embeddings) / "kmeans_clusters.csv"
    embedded = pd.read_csv(path, dtype={"tomo": str}, keep_default_na=False)
    patches, sizes, kinds, groups = [], [], [], []
    for name in level.names:
        truth, found = _pair(level, name, embeddings)
        rows = embedded[embedded["tomo"] == name]
        labels = rows["label"].to_numpy()
        kinds += [*true_kinds(truth, found.instances)[labels]]
        groups += [*rows["cluster"]]
        for patch, size in _cut(found, labels):
            patches.append(patch.ravel())
            sizes.append(size)
    real = np.array(kinds) > 0
    n_clusters = len(PARTICLE_CLASSES)
    described = {
        OURS: np.array(groups),
        "principal components of the voxels": kmeans_of_components(np.array(patches), n_clusters),
        "volume of the instance": kmeans_of_components(np.log(sizes)[:, None], n_clusters),
    }
    return {
        method: cluster_agreement(np.array(kinds)[real], found[real])
        for method, found in described.items()
    }


def _pair(level: Level, name: str, embeddings: str) -> tuple[Truth, Found]:
    truth, found = read_truth(level.folders, name), read_found(level.folders, name)
    if embeddings == TRUE_EMBEDDINGS:
        found = replace(found, instances=truth.instances)
    return truth, found


def _cut(found: Found, labels: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.float32], float]]:
    """Patches of instances as the embedding network gets them, and their volumes."""
    table = measure_instances(found.instances).set_index("label", drop=False).loc[labels]
    cutter = InstanceCutter(found.denoised, found.instances, PATCH, CONVEX_HULL, 0.0, False)
    for label, area, box in zip(table["label"], table["area"], boxes_of(table), strict=True):
        yield cutter.cut(int(label), box)[0], float(area)
