"""How good every step of the workflow was on tomograms whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cryosiam_engine.demo.results import (
    Found,
    Grey,
    Truth,
    read_clusters,
    read_found,
    read_tomogram,
    read_truth,
)
from cryosiam_engine.demo.workflow import PARTICLE_CLASSES, Folders
from cryosiam_engine.demo_models import CLASS_NAMES
from cryosiam_engine.scores import (
    Matches,
    cluster_agreement,
    correlation,
    dice,
    dice_per_class,
    match_instances,
    match_points,
    true_partners,
)

#: Voxels between a true and a found centre: the radius of the smallest particle.
MATCH_DISTANCE = 4.0
#: Voxels; the denoiser has to beat the best of these, chosen afterwards.
GAUSSIAN_SIGMAS = (0.75, 1.0, 1.5, 2.0, 2.5, 3.0)

_CENTRE = ["centroid-0", "centroid-1", "centroid-2"]

#: Plain numbers by step and by what they are of, as they are written to JSON.
Scores = dict[str, Any]


def score_run(folders: Folders, names: Sequence[str]) -> Scores:
    """Compare all results of a run of the workflow with the truth.

    Volumes' scores are means over tomograms; objects of all tomograms are counted together.

    Parameters
    ----------
    folders
        Where the run was.
    names
        Stems of the tomograms.

    Returns
    -------
    dict
        ``denoising`` (correlation with the clean volume within the lamella: ``tomogram``,
        ``gaussian``, ``gaussian_sigma``, ``denoised``), ``lamella`` (Dice), ``classes`` (Dice by
        class), ``particles`` (by species: precision, recall, f1, true, found), ``instances``
        (average_precision at an intersection over union of 0.5, true, found), ``clusters``
        (adjusted_rand_index, particles).
    """
    truths = {name: read_truth(folders, name) for name in names}
    results = {name: read_found(folders, name) for name in names}
    pairs = [(truths[name], results[name]) for name in names]
    tomograms = [read_tomogram(folders, name) for name in names]
    return {
        "denoising": score_denoising(tomograms, pairs),
        "lamella": _mean([dice(t.lamella > 0, f.lamella > 0) for t, f in pairs]),
        "classes": score_classes([(t.classes, f.classes) for t, f in pairs]),
        "particles": score_particles([(t.particles, f.centres) for t, f in pairs]),
        "instances": score_instances([(t.instances, f.instances) for t, f in pairs]),
        "clusters": score_clusters(read_clusters(folders), truths, results),
    }


def score_denoising(tomograms: Sequence[Grey], pairs: Sequence[tuple[Truth, Found]]) -> Scores:
    """Correlation with the clean volume within the lamella, beside that of simple means."""

    def mean(volumes: Sequence[Grey]) -> float:
        return _mean(
            [
                correlation(truth.clean, volume, truth.lamella > 0)
                for volume, (truth, _) in zip(volumes, pairs, strict=True)
            ]
        )

    smooth = {
        sigma: mean([gaussian_filter(tomogram, sigma) for tomogram in tomograms])
        for sigma in GAUSSIAN_SIGMAS
    }
    best = max(smooth, key=lambda sigma: smooth[sigma])
    return {
        "tomogram": mean(tomograms),
        "gaussian": smooth[best],
        "gaussian_sigma": best,
        "denoised": mean([found.denoised for _, found in pairs]),
    }


def score_classes(pairs: Sequence[tuple[NDArray, NDArray]]) -> Scores:
    """Mean Dice of every class but the background, from pairs of true and found labels."""
    classes = [index for index in CLASS_NAMES if index]
    each = [dice_per_class(truth, found, classes) for truth, found in pairs]
    return {CLASS_NAMES[index]: _mean([one[index] for one in each]) for index in classes}


def score_particles(pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> Scores:
    """Precision, recall and F1 of every species, from pairs of true and found particles."""
    scores = {}
    for index in PARTICLE_CLASSES:
        counts = Matches(0, 0, 0)
        for tables in pairs:
            truth, found = (table[table["semantic_class"] == index] for table in tables)
            counts += match_points(truth[_CENTRE], found[_CENTRE], MATCH_DISTANCE)
        scores[CLASS_NAMES[index]] = {
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
            "true": counts.matched + counts.missed,
            "found": counts.matched + counts.spurious,
        }
    return scores


def score_instances(pairs: Sequence[tuple[NDArray, NDArray]]) -> Scores:
    """Average precision from pairs of true and found instances."""
    counts = Matches(0, 0, 0)
    for truth, found in pairs:
        counts += match_instances(truth, found)
    return {
        "average_precision": counts.average_precision,
        "true": counts.matched + counts.missed,
        "found": counts.matched + counts.spurious,
    }


def score_clusters(
    clusters: pd.DataFrame, truths: dict[str, Truth], results: dict[str, Found]
) -> Scores:
    """Agreement of clusters with species, of the found instances that are true particles."""
    kinds, groups = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for name, truth in truths.items():
        own = clusters[clusters["tomo"] == name]
        found = true_kinds(truth, results[name].instances)[own["label"].to_numpy()]
        kinds = np.concatenate([kinds, found])
        groups = np.concatenate([groups, own["cluster"].to_numpy()])
    real = kinds > 0
    return {
        "adjusted_rand_index": cluster_agreement(kinds[real], groups[real]),
        "particles": int(real.sum()),
    }


def true_kinds(truth: Truth, instances: NDArray[np.integer]) -> NDArray[np.int64]:
    """Class of the true particle behind every found instance, by label; 0 where there is none."""
    partners = true_partners(truth.instances, instances)
    kinds = np.zeros(int(truth.particles["label"].max()) + 1, np.int64)
    kinds[truth.particles["label"]] = truth.particles["semantic_class"]
    kinds[0] = 0
    return kinds[partners]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
