"""The whole workflow with the built-in models: each step as a user would configure it."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cryosiam_engine.commands import run as run_command
from cryosiam_engine.demo_models import CLASS_NAMES, demo_model
from cryosiam_engine.files import write_text
from cryosiam_engine.simulation import SimulationSettings, simulate, write_simulation

logger = logging.getLogger(__name__)

#: Classes that are particles: all but background and membrane.
PARTICLE_CLASSES = tuple(sorted(CLASS_NAMES))[2:]
#: Smaller components of a class (voxels, from the background on; -1 keeps all) are dropped: a third
#: of the smallest particle and less than half of a vesicle's shell.
_SMALLEST = [-1, 2000, 600, 400, 130]
#: A particle has to keep so many voxels when it is eroded by one, class by class from membranes on.
_SMALLEST_ERODED = [500, 400, 200, 80]
#: Voxels along each axis that the embedding network sees of a particle.
_EMBEDDED = [32, 32, 32]


@dataclass(frozen=True)
class Step:
    """One command of the workflow.

    Attributes
    ----------
    command
        Of ``cryosiam-engine``.
    name
        Of the configuration's file.
    config
        What is in it.
    """

    command: str
    name: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Folders:
    """Where everything of one run lies.

    Attributes
    ----------
    root
        Holds ``tomograms``, ``truth`` and, in ``predictions``, what the steps made of them.
    """

    root: Path

    @property
    def tomograms(self) -> Path:
        """What is to be worked on."""
        return self.root / "tomograms"

    @property
    def truth(self) -> Path:
        """What is true about the tomograms."""
        return self.root / "truth"

    def result(self, name: str) -> Path:
        """Result of a step: denoised, lamella, semantic, instances or embeddings."""
        return self.root / "predictions" / name


def add_sample(folders: Folders, name: str, settings: SimulationSettings) -> None:
    """Simulate a tomogram and write it with its truth, unless it is there from an earlier run.

    Parameters
    ----------
    folders
        Where to.
    name
        Of the tomogram.
    settings
        What to simulate.
    """
    # Written last: with it everything is there.
    if not (folders.truth / f"{name}_classes.json").is_file():
        write_simulation(simulate(settings, name), folders.root)


def steps(folders: Folders, model: Callable[[str], Path] = demo_model) -> list[Step]:
    """The commands in their order.

    Parameters
    ----------
    folders
        With the tomograms; the results go there too.
    model
        Gives the file of each model by its name.
    """
    semantic = _semantic(folders, model("semantic"))
    embeddings = str(folders.result("embeddings"))
    clusters = {
        "prediction_folder": embeddings,
        "clustering_kmeans": {"num_clusters": len(PARTICLE_CLASSES), "visualization": False},
    }
    pictures = {
        "data_folder": str(folders.result("denoised")),
        "prediction_folder": embeddings,
        "parameters": {"data": {"patch_size": _EMBEDDED}},
    }
    return [
        Step("denoise_predict", "denoising", _denoising(folders, model("denoising"))),
        Step("semantic_predict", "lamella", _lamella(folders, model("lamella"))),
        Step("semantic_predict", "semantic", semantic),
        Step("semantic_postprocessing", "semantic", semantic),
        Step("semantic_to_centers", "semantic", semantic),
        Step("instance_predict", "instances", _instances(folders, model("instance"))),
        Step("simsiam_embeddings_predict", "embeddings", _embeddings(folders, model("embedding"))),
        Step("simsiam_embeddings_kmeans_clustering", "clusters", clusters),
        Step("simsiam_embeddings_map", "map", pictures),
    ]


def run_steps(folders: Folders, to_do: list[Step], *, device: str, precision: str) -> int:
    """Run steps one after the other, as the command line does.

    Parameters
    ----------
    folders
        Where the configurations are written.
    to_do
        Some of :func:`steps`.
    device, precision
        As on the command line.

    Returns
    -------
    int
        0 when every step did all tomograms; the others are not begun after one that did not.
    """
    for step in to_do:
        path = folders.root / f"config_{step.name}.yaml"
        write_text(path, yaml.safe_dump(step.config, sort_keys=False))
        logger.info("$ cryosiam-engine %s --config_file %s", step.command, shlex.quote(str(path)))
        arguments = argparse.Namespace(
            command=step.command,
            config_file=path,
            filename=[],
            device=device,
            precision=precision,
            tiling=None,
            overwrite=False,
        )
        code = run_command(arguments)
        if code:
            return code
    return 0


def _denoising(folders: Folders, model: Path) -> dict[str, Any]:
    return {
        **_prediction(folders.tomograms, folders.result("denoised"), model),
        "scale_prediction": True,
    }


def _lamella(folders: Folders, model: Path) -> dict[str, Any]:
    config = _prediction(folders.result("denoised"), folders.result("lamella"), model)
    config["parameters"]["network"] = {"threshold": 0.5, "postprocessing": True}
    return {**config, "output_format": "both"}


def _semantic(folders: Folders, model: Path) -> dict[str, Any]:
    config = _prediction(folders.result("denoised"), folders.result("semantic"), model)
    config["parameters"]["network"] = {
        "threshold": 0.3,
        "out_channels": len(CLASS_NAMES),
        "postprocessing_sizes": _SMALLEST,
        "min_voxels": _SMALLEST_ERODED,
    }
    return {**config, "mask_folder": str(folders.result("lamella")), "output_format": "both"}


def _instances(folders: Folders, model: Path) -> dict[str, Any]:
    config = _prediction(folders.result("denoised"), folders.result("instances"), model)
    config["parameters"]["network"] = {
        "threshold_foreground": 0.65,
        "min_center_distance": 1,
        "max_center_distance": 2.5,
        "distance_type": 1,
        "postprocessing": False,
        "boundary_bias": 0.8,
    }
    return {
        **config,
        "mask_folder": str(folders.result("lamella")),
        # Vesicles are instances to the network as well; here only particles are wanted.
        "semantic_predictions": str(folders.result("semantic")),
        "semantic_foreground_labels": list(PARTICLE_CLASSES),
        "output_format": "both",
    }


def _embeddings(folders: Folders, model: Path) -> dict[str, Any]:
    config = _prediction(folders.result("denoised"), folders.result("embeddings"), model)
    config["parameters"]["data"]["patch_size"] = _EMBEDDED
    return {
        **config,
        "instances_mask_folder": str(folders.result("instances")),
        "masking_type": 1,
        "min_particle_size": _SMALLEST[-1],
    }


def _prediction(data: Path, results: Path, model: Path) -> dict[str, Any]:
    return {
        "data_folder": str(data),
        "prediction_folder": str(results),
        "trained_model": str(model),
        "file_extension": ".mrc",
        "test_files": None,
        "parameters": {"data": {"min": 0, "max": 1, "mean": 0, "std": 1}},
        "hyper_parameters": {"batch_size": 2},
    }
