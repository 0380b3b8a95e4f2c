"""How the built-in models are made: simulated tomograms, and five small networks trained on them.

Everything is seeded: the same recipe gives the same models on the same kind of computer.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cryosiam_engine.commands import run as run_command
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import EngineError
from cryosiam_engine.files import write_text
from cryosiam_engine.training import demo_tomograms
from cryosiam_engine.training.checkpoints import BEST, models_folder
from cryosiam_engine.training.command import run as run_training
from cryosiam_engine.training.model_files import export_model

logger = logging.getLogger(__name__)

#: In this order: the others learn from tomograms that the first one has denoised.
MODELS = ("denoising", "lamella", "semantic", "instance", "embedding")

_PATCH = 48
#: A proteasome is 30 voxels long: most that a small patch holds are cut. The semantic network is
#: made with small patches, which is fast, and finished with large ones, which hold whole particles.
_LARGE_PATCH = 80
#: Vesicles are instances too, but no particles.
_PARTICLES_TO_EMBED = {"masking_type": 1, "min_particle_size": 40, "max_particle_size": 6000}
#: To see that it runs.
_QUICK_DATA = {"patch_size": [32] * 3, "patches_per_epoch": 8, "validation_patches": 2}
_BACKBONE = {
    "num_filters": [8, 16, 32, 32],
    "fpn_channels": 16,
    "dense_dim": 16,
    "dense_pred_dim": 16,
    "dim": 32,
    "pred_dim": 16,
}


def recipe(model: str, folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """The configuration of the training of one model.

    Parameters
    ----------
    model
        One of :data:`MODELS`.
    folder
        With the tomograms; models go to ``<folder>/training``.
    names
        Files, the last of which are for validation.

    Returns
    -------
    dict
        As a YAML file holds it.
    """
    network: dict[str, Any] = {"filters": [16, 16], "kernel_size": 3}
    transforms: dict[str, Any] = {"flip": True, "scale_intensity_factors": [-0.2, 0.2]}
    schedule = {"max_epochs": 10, "batch_size": 2, "lr": 0.002, "optimizer": "adamw"}
    edge, per_epoch = _PATCH, 200
    if model == "denoising":
        network |= {"loss_type": "l2"}
        transforms = {"flip": True}
        schedule |= {"max_epochs": 20, "lr": 0.004}
    elif model == "lamella":
        network |= {"out_channels": 1, "use_dice_loss": True}
        schedule |= {"max_epochs": 4}
    elif model == "semantic":
        network |= {"out_channels": 2 + len(demo_tomograms.PARTICLES), "use_dice_loss": True}
        schedule |= {"max_epochs": 48}
    elif model == "embedding":
        edge = 32
        transforms |= {"rotate": 3.14, "noise_sigma_range": [0.02, 0.1]}
        schedule |= {"max_epochs": 15, "batch_size": 16}
    return {
        "task": "semantic" if model == "lamella" else model,
        "data_folder": str(folder / ("noisy" if model == "denoising" else "denoised")),
        **_targets(model, folder),
        "log_dir": str(folder / "training" / model),
        "train_files": list(names[: -demo_tomograms.N_VALIDATION]),
        "val_files": list(names[-demo_tomograms.N_VALIDATION :]),
        "continue_training": True,
        "parameters": {
            "data": {
                "patch_size": [edge] * 3,
                "patches_per_epoch": per_epoch,
                "validation_patches": 40,
            },
            "transforms": transforms,
            "network": network,
        },
        "backbone": _BACKBONE,
        "hyper_parameters": schedule,
        **(_PARTICLES_TO_EMBED if model == "embedding" else {}),
    }


def finish(values: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the second training of the semantic network, with larger patches.

    Parameters
    ----------
    values
        The configuration of the first.

    Returns
    -------
    dict
        As a YAML file holds it; it begins with the best model of the first.
    """
    first = Path(values["log_dir"])
    parameters = values["parameters"]
    data = {
        "patch_size": [_LARGE_PATCH] * 3,
        "patches_per_epoch": 100,
        "validation_patches": 16,
    }
    network = {**parameters["network"], "unfreeze_decoder": True, "unfreeze_backbone": True}
    return {
        **{key: value for key, value in values.items() if key != "backbone"},
        "log_dir": str(first.with_name(f"{first.name}-finished")),
        "pretrained_model": str(models_folder(first) / BEST),
        "parameters": {**parameters, "data": data, "network": network},
        "hyper_parameters": {"max_epochs": 10, "batch_size": 1, "lr": 0.001, "optimizer": "adamw"},
    }


def _targets(model: str, folder: Path) -> dict[str, str]:
    if model == "denoising":
        return {"gt_folder": str(folder / "clean")}
    kind = model if model in ("semantic", "lamella") else "instances"
    return {"labels_folder": str(folder / kind)}


def make_models(
    folder: Path, models: Sequence[str] = MODELS, *, device: str = "auto", quick: bool = False
) -> list[Path]:
    """Simulate, train and export the built-in models; a second call goes on where one ended.

    Parameters
    ----------
    folder
        For everything; the models are ``<folder>/models/demo_<name>.safetensors``.
    models
        Which ones. All but the denoiser need the denoiser.
    device
        ``auto``, ``cpu`` or ``cuda``.
    quick
        Two short epochs each on few tomograms: to see that it runs, not for use.

    Raises
    ------
    EngineError
        When a step fails.
    """
    names = demo_tomograms.simulate_tomograms(folder, 3 if quick else demo_tomograms.N_TOMOGRAMS)
    written = []
    for model in models:
        if model != "denoising":
            _denoise(folder, device)
        values = recipe(model, folder, names)
        best = _train(values, device, quick)
        if model == "semantic":
            best = _train(finish(values), device, quick)
        path = folder / "models" / f"demo_{model}.safetensors"
        export_model(best, path)
        logger.info("%s: %d kB", path, path.stat().st_size // 1000)
        written.append(path)
    return written


def _train(values: dict[str, Any], device: str, quick: bool) -> Path:
    """Train by a recipe, which is written beside the results; the best model."""
    results = Path(values["log_dir"])
    if quick:
        values["parameters"]["data"] |= _QUICK_DATA
        values["hyper_parameters"] |= {"max_epochs": 2, "batch_size": 2}
    write_text(results.with_suffix(".yaml"), yaml.safe_dump(values, sort_keys=False))
    arguments = argparse.Namespace(device=device, precision="auto")
    run_training(TrainConfig.model_validate(values), arguments)
    return models_folder(results) / BEST


def _denoise(folder: Path, device: str) -> None:
    """Denoise all tomograms with the denoiser; finished ones are not computed again."""
    model = models_folder(folder / "training" / "denoising") / BEST
    values = {
        "data_folder": str(folder / "raw"),
        "prediction_folder": str(folder / "denoised"),
        "trained_model": str(model),
    }
    config = folder / "training" / "denoise.yaml"
    write_text(config, yaml.safe_dump(values))
    arguments = argparse.Namespace(
        command="denoise_predict",
        config_file=str(config),
        filename=[],
        device=device,
        precision="auto",
        tiling=None,
        overwrite=False,
    )
    if run_command(arguments):
        raise EngineError(
            f"The simulated tomograms in {folder} could not be denoised.",
            remedy="See the messages above.",
        )
