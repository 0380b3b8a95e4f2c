"""Held-out tomograms at one noise level, and what the built-in models make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from baselines import Sample
from cryosiam_engine.demo.results import Truth, read_tomogram, read_truth
from cryosiam_engine.demo.workflow import Folders, Step, add_sample, run_steps, steps
from cryosiam_engine.demo_models import sample_settings
from cryosiam_engine.hdf5 import write_datasets
from cryosiam_engine.simulation import simulate

#: Neither the demonstration's seeds nor those of the training, which begin with the other.
FIRST_SEED, TRAINING_SEED = 100, 1000
#: The step that embeds the true instances, and the folder of its result.
TRUE_EMBEDDINGS = "embeddings-of-true-instances"
_TRUE_INSTANCES = "true-instances"
_CENTRE = ["centroid-0", "centroid-1", "centroid-2"]


@dataclass(frozen=True)
class Level:
    """Tomograms of one signal-to-noise ratio.

    Attributes
    ----------
    snr
        Variance of the signal over variance of the noise.
    folders
        Where they are.
    names
        Of the held-out ones.
    """

    snr: float
    folders: Folders
    names: Sequence[str]


def make_level(folder: Path, snr: float, n_tomograms: int) -> Level:
    """Simulate; the same samples at every noise level."""
    level = Level(
        snr,
        Folders(folder / f"snr-{snr:g}"),
        [f"TS_{number + 1:02d}" for number in range(n_tomograms)],
    )
    for number, name in enumerate(level.names):
        add_sample(level.folders, name, sample_settings(FIRST_SEED + number, snr))
    return level


def run_models(level: Level, model: Callable[[str], Path], device: str) -> None:
    """Run the demonstration's steps without the map, and two networks by themselves.

    The instance network without the classes, and the embeddings of the true instances.

    Raises
    ------
    SystemExit
        When a step fails.
    """
    to_do = [step for step in steps(level.folders, model) if step.name != "map"]
    alone = next(step for step in to_do if step.name == "instances")
    config = {
        **alone.config,
        "prediction_folder": str(level.folders.result("instances-alone")),
        "semantic_predictions": None,
        "semantic_foreground_labels": [],
    }
    to_do.append(replace(alone, name="instances-alone", config=config))
    run_only(level, [*to_do, *_of_true_instances(level, to_do)], device)


def _of_true_instances(level: Level, to_do: list[Step]) -> list[Step]:
    """Write the true instances as predictions are written; embed and cluster them."""
    folder = level.folders.result(_TRUE_INSTANCES)
    folder.mkdir(parents=True, exist_ok=True)
    for name in level.names:
        instances = read_truth(level.folders, name).instances
        write_datasets(folder / f"{name}_instance_preds.h5", {"instances": instances})
    results = {"prediction_folder": str(level.folders.result(TRUE_EMBEDDINGS))}
    changes = {
        "embeddings": {**results, "instances_mask_folder": str(folder)},
        "clusters": results,
    }
    return [
        replace(s, name=f"{s.name}-of-true-instances", config={**s.config, **changes[s.name]})
        for s in to_do
        if s.name in changes
    ]


def run_only(level: Level, to_do: list[Step], device: str) -> None:
    """Run steps, or end the program."""
    if run_steps(level.folders, to_do, device=device, precision="auto"):
        raise SystemExit("A step failed, for the reasons above.")


def held_out(level: Level) -> list[Sample]:
    """The tomograms of a level, for the baselines."""
    return [
        _sample(read_tomogram(level.folders, name), read_truth(level.folders, name))
        for name in level.names
    ]


def tuning_sample(snr: float) -> Sample:
    """A tomogram of the training, at this noise level."""
    made = simulate(sample_settings(TRAINING_SEED, snr), "training")
    truth = Truth(
        clean=made.clean,
        lamella=made.lamella,
        classes=made.semantic,
        instances=np.where(made.semantic > 1, made.instances, 0).astype(np.uint32),
        particles=made.particles,
    )
    return _sample(-made.tomogram, truth)


def _sample(tomogram: np.ndarray, truth: Truth) -> Sample:
    by_species = truth.particles.groupby("class_name")
    return Sample(
        tomogram=tomogram,
        clean=truth.clean,
        lamella=truth.lamella > 0,
        classes=truth.classes,
        instances=truth.instances,
        centres={str(name): rows[_CENTRE].to_numpy() for name, rows in by_species},
    )
