"""Scores of the built-in models, and of what else can be made of the same instances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from baselines import kmeans_of_components
from cryosiam_engine.demo.results import Found, Truth, read_clusters, read_found, read_truth
from cryosiam_engine.demo.scoring import score_run, true_kinds
from cryosiam_engine.demo.workflow import PARTICLE_CLASSES
from cryosiam_engine.embeddings.instance_patches import CONVEX_HULL, InstanceCutter
from cryosiam_engine.embeddings.regions import boxes_of
from cryosiam_engine.hdf5 import read_dataset
from cryosiam_engine.instances.table import measure_instances
from cryosiam_engine.scores import Matches, cluster_agreement, dice, match_instances
from cryosiam_engine.volume import read_volume
from numpy.typing import NDArray
from samples import Level
from skimage.segmentation import expand_labels

PATCH = (32, 32, 32)
OURS = "demo model"

#: By task and method.
Results = dict[str, dict[str, float]]


def score_models(level: Level) -> Results:
    """What the built-in models reach at one noise level."""
    scores = score_run(level.folders, level.names)
    pairs = [(read_truth(level.folders, n), read_found(level.folders, n)) for n in level.names]
    return {
        "denoising": {
            "tomogram as it is": scores["denoising"]["tomogram"],
            OURS: scores["denoising"]["denoised"],
        },
        "lamella": {OURS: scores["lamella"]},
        "foreground": {OURS: float(np.mean([_foreground(*pair) for pair in pairs]))},
        **{f"class {name}": {OURS: value} for name, value in scores["classes"].items()},
        **{f"centres of {name}": {OURS: s["f1"]} for name, s in scores["particles"].items()},
        "instances": {OURS: scores["instances"]["average_precision"]},
        "instances, vesicles included": {"demo instance model alone": _alone(level)},
        "clusters": {
            OURS: scores["clusters"]["adjusted_rand_index"],
            **_other_clusters(level, dict(zip(level.names, pairs, strict=True))),
        },
    }


def _foreground(truth: Truth, found: Found) -> float:
    return dice(truth.classes > 0, found.classes > 0)


def _alone(level: Level) -> float:
    """Average precision of the instance network, against what it was taught.

    Its particles are one voxel larger all around than the true ones, and include vesicles.
    """
    counts = Matches(0, 0, 0)
    for name in level.names:
        truth = read_volume(level.folders.truth / f"{name}_instances.mrc").data
        path = level.folders.result("instances-alone") / f"{name}_instance_preds.h5"
        counts += match_instances(expand_labels(truth, 1), read_dataset(path, "instances"))
    return counts.average_precision


def _other_clusters(level: Level, pairs: dict[str, tuple[Truth, Found]]) -> dict[str, float]:
    """Agreement with the species of clusters of the very instances that were embedded."""
    embedded = read_clusters(level.folders)
    patches, sizes, kinds = [], [], []
    for name, (truth, found) in pairs.items():
        labels = embedded.loc[embedded["tomo"] == name, "label"].to_numpy()
        kinds += [*true_kinds(truth, found.instances)[labels]]
        for patch, size in _cut(found, labels):
            patches.append(patch.ravel())
            sizes.append(size)
    real = np.array(kinds) > 0
    n_clusters = len(PARTICLE_CLASSES)
    by_voxels = kmeans_of_components(np.array(patches), n_clusters)
    by_size = kmeans_of_components(np.log(np.array(sizes))[:, None], n_clusters)
    truth_of = np.array(kinds)[real]
    return {
        "principal components of the voxels": cluster_agreement(truth_of, by_voxels[real]),
        "volume of the instance": cluster_agreement(truth_of, by_size[real]),
    }


def _cut(found: Found, labels: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.float32], float]]:
    """Patches of instances as the embedding network gets them, and their volumes."""
    table = measure_instances(found.instances).set_index("label", drop=False).loc[labels]
    cutter = InstanceCutter(found.denoised, found.instances, PATCH, CONVEX_HULL, 0.0, False)
    for label, area, box in zip(table["label"], table["area"], boxes_of(table), strict=True):
        yield cutter.cut(int(label), box)[0], float(area)
