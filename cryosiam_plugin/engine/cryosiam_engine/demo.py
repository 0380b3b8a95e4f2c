"""The first five minutes: simulated tomograms through the whole workflow, no download, no GPU."""

from __future__ import annotations

import argparse
import logging
import shlex
from pathlib import Path
from typing import Any

import torch
import yaml

from cryosiam_engine.commands import run as run_command
from cryosiam_engine.demo_picture import save_picture
from cryosiam_engine.device import choose_device
from cryosiam_engine.files import atomic_path, write_text
from cryosiam_engine.networks import random_checkpoint
from cryosiam_engine.networks.description import Task
from cryosiam_engine.simulation import SimulationSettings, simulate, write_simulation

logger = logging.getLogger(__name__)

#: Small enough for two minutes on two cores.
SHAPE = (96, 128, 128)
N_TOMOGRAMS = 2

#: File, task, output channels and seed of the built-in models.
MODELS: tuple[tuple[str, Task, int, int], ...] = (
    ("demo_denoising.ckpt", "denoising", 1, 1),
    ("demo_lamella.ckpt", "semantic", 1, 5),
    ("demo_semantic.ckpt", "semantic", 4, 6),
)

UNTRAINED = (
    "The demo's models are UNTRAINED (random weights): every step is the real one, but what it "
    "recognises means nothing. Put the published models in your own configurations."
)


def run(args: argparse.Namespace) -> int:
    """Simulate tomograms, then denoise, mask, segment and pick them.

    Parameters
    ----------
    args
        ``output`` (folder), ``device`` and ``precision``.

    Returns
    -------
    int
        0 when every step did all tomograms.
    """
    folder = Path(args.output).absolute()
    device = str(choose_device(args.device))
    logger.info("Simulating %d tomograms ...", N_TOMOGRAMS)
    names = [f"TS_{index + 1:02d}" for index in range(N_TOMOGRAMS)]
    for seed, name in enumerate(names):
        write_simulation(simulate(SimulationSettings(shape=SHAPE, seed=seed), name), folder)
    write_models(folder / "models")
    logger.warning(UNTRAINED)
    worst = 0
    for command, config in steps(folder):
        path = folder / f"config_{config.pop('name')}.yaml"
        write_text(path, yaml.safe_dump(config, sort_keys=False))
        logger.info("$ cryosiam-engine %s --config_file %s", command, shlex.quote(str(path)))
        step = argparse.Namespace(
            command=command,
            config_file=path,
            filename=[],
            device=device,
            precision=args.precision,
            tiling=None,
            overwrite=False,
        )
        worst = max(worst, run_command(step))
    if worst == 0:
        _say_where_to_look(folder, names)
    return worst


def write_models(folder: Path) -> None:
    """Write the built-in models as checkpoints in the published format, unless they are there."""
    for name, task, out_channels, seed in MODELS:
        path = folder / name
        if path.exists():
            continue
        checkpoint = random_checkpoint(task, out_channels=out_channels, seed=seed)
        with atomic_path(path) as partial:
            torch.save(checkpoint, partial)


def steps(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The workflow: each command with the configuration that a user would write for it.

    Parameters
    ----------
    folder
        Holds ``tomograms`` and ``models``; every step's results go to ``predictions``.
    """
    predictions = folder / "predictions"
    semantic = {
        **_config(predictions / "denoised", predictions / "semantic", "demo_semantic", folder),
        "mask_folder": str(predictions / "lamella"),
        "output_format": "both",
    }
    semantic["parameters"]["network"] = {"threshold": 0.3, "out_channels": 4, "min_voxels": 30}
    lamella = {
        **_config(predictions / "denoised", predictions / "lamella", "demo_lamella", folder),
        "output_format": "both",
    }
    lamella["parameters"]["network"] = {"threshold": 0.5, "postprocessing": True}
    denoising = {
        **_config(folder / "tomograms", predictions / "denoised", "demo_denoising", folder),
        "scale_prediction": True,
        "save_raw_predictions": False,
    }
    return [
        ("denoise_predict", {"name": "denoising", **denoising}),
        ("semantic_predict", {"name": "lamella", **lamella}),
        ("semantic_predict", {"name": "semantic", **semantic}),
        ("semantic_to_centers", {"name": "semantic", **semantic}),
    ]


def _config(data: Path, predictions: Path, model: str, folder: Path) -> dict[str, Any]:
    return {
        "data_folder": str(data),
        "prediction_folder": str(predictions),
        "trained_model": str(folder / "models" / f"{model}.ckpt"),
        "file_extension": ".mrc",
        "test_files": None,
        "parameters": {"data": {"min": 0, "max": 1, "mean": 0, "std": 1}},
        "hyper_parameters": {"batch_size": 2},
    }


def _say_where_to_look(folder: Path, names: list[str]) -> None:
    predictions = folder / "predictions"
    picture = save_picture(folder, names[0])
    for line in (
        f"Picture of {names[0]}:   {picture}",
        f"Simulated tomograms:  {folder / 'tomograms'}  (what is true of them: {folder / 'truth'})",
        f"Denoised tomograms:   {predictions / 'denoised'}",
        f"Lamella masks:        {predictions / 'lamella'}",
        f"Class labels:         {predictions / 'semantic'}",
        f"Particle centres:     {predictions / 'semantic'}/labels_<class>.csv and .star",
        f"Configurations:       {folder}/config_*.yaml, to change and run again",
        UNTRAINED,
    ):
        logger.info(line)
