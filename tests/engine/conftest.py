from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cryosiam_engine.networks import random_checkpoint
from cryosiam_engine.simulation import SimulationSettings, simulate, write_simulation

VOXEL_SIZE = 13.48


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small untrained checkpoints: denoising, lamella, four classes, instances."""
    folder = tmp_path_factory.mktemp("models")
    for name, task, out_channels, seed in (
        ("denoising", "denoising", 1, 1),
        ("lamella", "semantic", 1, 5),
        ("semantic", "semantic", 4, 6),
        ("instance", "instance", 1, 1),
    ):
        checkpoint = random_checkpoint(task, out_channels=out_channels, seed=seed)
        torch.save(checkpoint, folder / f"{name}.ckpt")
    return folder


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three simulated tomograms TS_01 .. TS_03, 40 x 48 x 56 voxels of 13.48 Å."""
    folder = tmp_path_factory.mktemp("simulated")
    for seed in range(3):
        settings = SimulationSettings(
            shape=(40, 48, 56),
            voxel_size=VOXEL_SIZE,
            particles_per_species={"ribosome": 2, "rubisco": 4},
            membranes=0,
            seed=seed,
        )
        write_simulation(simulate(settings, f"TS_{seed + 1:02d}"), folder)
    return folder / "tomograms"


@pytest.fixture
def write_config(tmp_path: Path, models: Path, simulated: Path) -> Callable[..., Path]:
    """Write a configuration as a user would, with changes at the top level or in the network."""

    def write(
        model: str, network: dict[str, Any] | None = None, name: str = "config", **changes: Any
    ) -> Path:
        values = {
            "data_folder": str(simulated),
            "prediction_folder": str(tmp_path / "out"),
            "trained_model": str(models / f"{model}.ckpt"),
            "file_extension": ".mrc",
            "test_files": None,
            "parameters": {
                "data": {"patch_size": [128, 128, 128], "min": 0, "max": 1, "mean": 0, "std": 1},
                "network": {"in_channels": 1, "spatial_dims": 3, **(network or {})},
            },
            "hyper_parameters": {"batch_size": 2},
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write
