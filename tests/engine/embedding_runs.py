"""Running the embedding commands in a test as the command line does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
import yaml
from cryosiam_engine.config import list_tomograms, load_config, stem_of
from cryosiam_engine.dense import RunOptions
from cryosiam_engine.embeddings.model import load_embedding_model
from cryosiam_engine.embeddings.of_centers import CenterEmbeddingsCommand
from cryosiam_engine.embeddings.of_instances import EmbeddingsCommand
from cryosiam_engine.hdf5 import write_datasets
from cryosiam_engine.networks import random_checkpoint
from cryosiam_engine.run import RunReport, Tomogram, TomogramLoop
from cryosiam_engine.status import Status, read_status, status_folder
from cryosiam_engine.volume import write_mrc

INSTANCES = "simsiam_embeddings_predict"
CENTERS = "simsiam_embeddings_from_centers_predict"
PATCH = 8


def run_command(
    command: str, values: dict[str, Any], folder: Path, *, tiling: str = "auto"
) -> RunReport:
    """Write the configuration to `folder` and run the command on the CPU."""
    path = folder / "embeddings.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(path, command)
    config.check_paths()
    options = RunOptions(device="cpu", tiling=tiling)
    if command == INSTANCES:
        model = load_embedding_model(config, options, masking_type=config.masking_type)
        made = EmbeddingsCommand(config, model)
    else:
        model = load_embedding_model(config, options, masking_type=0)
        made = CenterEmbeddingsCommand(config, model)
    tomograms = [
        Tomogram(file, stem_of(file, config.file_extension)) for file in list_tomograms(config)
    ]
    return TomogramLoop(made, status_folder(config.prediction_folder, command)).run(tomograms)


def run_golden(
    golden: Path, case: str, command: str, folder: Path, *, tiling: str = "reference", **more: Any
) -> Path:
    """Run a case's configuration, writing to `folder`/out; the working folder must be golden."""
    values = yaml.safe_load((golden / case / "config.yaml").read_text())
    values |= {"prediction_folder": str(folder / "out"), **more}
    report = run_command(command, values, folder, tiling=tiling)
    assert report.exit_code == 0, report.failed
    return folder / "out"


def embeddings_in(folder: Path, stem: str) -> np.ndarray:
    """The embeddings `(n, dim)` of a tomogram, after checking how they are stored."""
    with h5py.File(folder / f"{stem}_embeds.h5") as file:
        assert list(file) == ["embeddings"]
        assert file["embeddings"].dtype == np.float64
        return file["embeddings"][()].T


def labels_in(folder: Path, stem: str) -> np.ndarray:
    with h5py.File(folder / f"{stem}_instance_labels.h5") as file:
        assert list(file) == ["labels"]
        assert file["labels"].dtype == np.int64
        return file["labels"][()]


def table_in(folder: Path, stem: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{stem}_instance_regions.csv")


def status_in(folder: Path, stem: str) -> Status:
    status = read_status(folder / "status", stem)
    assert status is not None
    return status


class Project:
    """A folder with a model, tomograms, instances and centres, and a configuration for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("tomograms", "instances"):
            (folder / name).mkdir()
        self.values: dict[str, Any] = {
            "data_folder": str(folder / "tomograms"),
            "prediction_folder": str(folder / "out"),
            "instances_mask_folder": str(folder / "instances"),
            "centers_file": str(folder / "centers.csv"),
            "centers_patch_size": PATCH,
            "trained_model": str(folder / "model.ckpt"),
            "contrastive": True,
            "masking_type": 1,
            "expand_labels": 0,
            "parameters": {"data": {"patch_size": [PATCH] * 3, "mean": 0, "std": 1}},
            "hyper_parameters": {"batch_size": 3},
        }
        self.out = folder / "out"
        self.make_model("model.ckpt")

    def make_model(self, name: str, seed: int = 0) -> None:
        torch.save(random_checkpoint("embedding", seed=seed), self.folder / name)

    def add(
        self, stem: str, volume: np.ndarray, instances: np.ndarray | None = None, suffix: str = ""
    ) -> None:
        path = self.folder / "tomograms" / f"{stem}.mrc"
        write_mrc(path, volume.astype(np.float32), voxel_size=(10.0, 10.0, 10.0))
        if instances is not None:
            file = self.folder / "instances" / f"{stem}_instance_preds{suffix}.h5"
            write_datasets(file, {"instances": instances.astype(np.uint32)})

    def run(self, command: str, *, tiling: str = "auto", **changes: Any) -> RunReport:
        return run_command(command, {**self.values, **changes}, self.folder, tiling=tiling)


def write_centers(folder: Path, rows: Sequence[tuple[Any, ...]], columns: str) -> Path:
    """Write a CSV of centres; `columns` is its heading."""
    path = folder / "centers.csv"
    pd.DataFrame(rows, columns=columns.split(",")).to_csv(path, index=False)
    return path


def recorded_patches(monkeypatch: Any) -> list[np.ndarray]:
    """Let every patch that enters the network be seen."""
    from cryosiam_engine.embeddings.model import EmbeddingModel

    seen: list[np.ndarray] = []
    original: Callable[..., torch.Tensor] = EmbeddingModel._run

    def run(self: EmbeddingModel, batch: np.ndarray) -> torch.Tensor:
        vectors = original(self, batch)
        seen.extend(batch[: len(vectors), 0].copy())
        return vectors

    monkeypatch.setattr(EmbeddingModel, "_run", run)
    return seen
