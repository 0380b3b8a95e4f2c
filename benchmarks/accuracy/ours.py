"""Scores of the built-in models."""

from __future__ import annotations

import numpy as np
from clusters import score_clusters
from cryosiam_engine.demo.results import Found, Truth, read_found, read_truth
from cryosiam_engine.demo.scoring import score_run
from cryosiam_engine.hdf5 import read_dataset
from cryosiam_engine.scores import Matches, dice, match_instances
from cryosiam_engine.volume import read_volume
from names import OURS, Results
from samples import TRUE_EMBEDDINGS, Level
from skimage.segmentation import expand_labels


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
        "clusters": score_clusters(level, "embeddings"),
        "clusters of true instances": score_clusters(level, TRUE_EMBEDDINGS),
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
