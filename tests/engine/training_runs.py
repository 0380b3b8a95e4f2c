"""Small trainings for the tests: tomograms with blobs, and configurations for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.training.metrics import read_metrics
from cryosiam_engine.training.modules import Training
from cryosiam_engine.volume import write_mrc
from scipy.ndimage import gaussian_filter, label

SHAPE = (24, 32, 40)


def write_training_data(folder: Path, n_tomograms: int = 3) -> Path:
    """Bright blobs in noise, with classes (small 1, large 2), instances and clean images."""
    for number in range(n_tomograms):
        rng = np.random.default_rng(number)
        classes = np.zeros(SHAPE, np.int8)
        grid = np.moveaxis(np.indices(SHAPE), 0, -1)
        for kind, radius in ((1, 3), (2, 5)) * 4:
            centre = [int(rng.integers(4, size - 4)) for size in SHAPE]
            classes[((grid - centre) ** 2).sum(-1) <= radius**2] = kind
        clean = gaussian_filter((classes > 0).astype(np.float32), 0.7)
        noisy = np.clip(clean + 0.2 * rng.standard_normal(SHAPE), 0, 1).astype(np.float32)
        volumes = {
            "tomograms": noisy,
            "clean": clean,
            "classes": classes,
            "instances": label(classes)[0].astype(np.int16),
        }
        for name, volume in volumes.items():
            write_mrc(folder / name / f"TS_{number + 1}.mrc", volume, voxel_size=10.0)
    return folder


def training_values(data: Path, log_dir: Path, task: str = "semantic") -> dict[str, Any]:
    """A configuration as a YAML file holds it, for a network of a few thousand weights."""
    values: dict[str, Any] = {
        "task": task,
        "data_folder": str(data / "tomograms"),
        "log_dir": str(log_dir),
        "parameters": {
            "data": {"patch_size": [16, 16, 16], "patches_per_epoch": 8, "validation_patches": 4},
            "transforms": {"rotate": 3.14, "zoom": [0.8, 1.2], "flip": True,
                           "noise_sigma_range": [0.05, 0.1]},
            "network": {"filters": [4, 4]},
        },
        "backbone": {"num_filters": [4, 4, 4, 4], "fpn_channels": 4, "dense_dim": 4, "dim": 8,
                     "pred_dim": 4, "dense_pred_dim": 4},
        "hyper_parameters": {"max_epochs": 3, "batch_size": 4, "lr": 0.01},
    }  # fmt: skip
    if task == "semantic":
        values["labels_folder"] = str(data / "classes")
        values["parameters"]["network"]["out_channels"] = 3
    elif task == "denoising":
        values["gt_folder"] = str(data / "clean")
    elif task != "backbone":
        values["labels_folder"] = str(data / "instances")
    return values


def training_config(
    data: Path, log_dir: Path, task: str = "semantic", **changes: Any
) -> TrainConfig:
    """As :func:`training_values`; `changes` are fields of the configuration, sections as dicts."""
    config = TrainConfig.model_validate(training_values(data, log_dir, task))
    for name, value in changes.items():
        if isinstance(value, dict):
            section = getattr(config, name)
            value = type(section).model_validate({**section.model_dump(), **value})
        config = config.model_copy(update={name: value})
    return config


def arguments(**changes: Any) -> argparse.Namespace:
    """What the command line gives."""
    defaults = {"device": "cpu", "precision": "auto", "processes": None, "dry_run": False}
    return argparse.Namespace(**{**defaults, "task": None, **changes})


def weights(log_dir: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    """The weights in a checkpoint of a training."""
    return load_checkpoint(log_dir / "model" / name, cache=False).state_dict


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two networks are equal, bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def step_losses(log_dir: Path) -> list[float]:
    """The loss of every step."""
    return [line["loss"] for line in read_metrics(log_dir) if line["kind"] == "step"]


class Killed(BaseException):
    """Ends a training as a kill does: nothing on the way out may count."""


def killed_at(step: int) -> Callable[[Training, Any, int], torch.Tensor]:
    """A ``training_step`` that dies before step `step`, counted from 0."""
    original = Training.training_step

    def dying(self: Training, batch: Any, index: int) -> torch.Tensor:
        if self.trainer.global_step == step:
            raise Killed
        return original(self, batch, index)

    return dying
