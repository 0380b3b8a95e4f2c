"""Configurations of training commands, written and read as a user's."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cryosiam_engine.config import loading
from cryosiam_engine.config.training import (
    DistanceMapsConfig,
    GroundTruthConfig,
    PatchesConfig,
    TrainingConfig,
)
from cryosiam_engine.volume import write_mrc

ARGS = argparse.Namespace(filename=[])
GEOMETRY = {"voxel_size": (7.1, 7.2, 7.3), "origin": (11.0, -12.0, 13.5)}

logging.getLogger("cryosiam_engine").setLevel(logging.DEBUG)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Read a configuration with some keys changed; a section is merged, None takes a key out."""
    for model in (GroundTruthConfig, DistanceMapsConfig, PatchesConfig):
        monkeypatch.setitem(loading.CONFIGS, model.command, model)

    def read(model: type[TrainingConfig], **changes: Any) -> Any:
        parameters = {
            "data": {"patch_size": [16, 16, 16], "patch_overlap": 0.5, "min": 0, "max": 1},
            "network": {"in_channels": 1, "spatial_dims": 3, "out_channels": 3},
        }
        for section, values in changes.pop("parameters", {}).items():
            parameters[section].update(values)
        values = {
            "data_folder": str(tmp_path / "tomograms"),
            "labels_folder": str(tmp_path / "labels"),
            "labels_folder_for_filtering": str(tmp_path / "all_labels"),
            "selected_labels": [2],
            "patches_folder": str(tmp_path / "patches"),
            "temp_dir": str(tmp_path / "temp"),
            "log_dir": str(tmp_path / "log"),
            "file_extension": ".mrc",
            "parameters": parameters,
            "hyper_parameters": {"batch_size": 2, "max_epochs": 3},
            **changes,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
        return loading.load_config(path, model.command)

    return read


def write_labels(folder: Path, stem: str, labels: np.ndarray) -> Path:
    path = folder / f"{stem}.mrc"
    write_mrc(path, labels, **GEOMETRY)
    return path


def blobs(shape: tuple[int, int, int], n_classes: int, seed: int = 0) -> np.ndarray:
    """Blocky labels 0 .. n_classes - 1."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, n_classes, [-(-n // 5) for n in shape])
    fine = coarse.repeat(5, 0).repeat(5, 1).repeat(5, 2)
    return fine[tuple(map(slice, shape))].astype(np.uint8)
