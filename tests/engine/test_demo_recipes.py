from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.networks import describe
from cryosiam_engine.training import demo_recipes, demo_tomograms
from cryosiam_engine.training.demo_recipes import MODELS, make_models, recipe
from cryosiam_engine.training.modules import Training


@pytest.mark.parametrize("model", MODELS)
def test_recipes_are_valid(tmp_path: Path, model: str) -> None:
    names = [f"TS_{number}.mrc" for number in range(4)]
    config = TrainConfig.model_validate(recipe(model, tmp_path, names))
    assert config.val_files == names[2:]
    assert config.continue_training


@pytest.mark.slow
def test_models_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All five, one from the other, in the least time that shows it."""
    monkeypatch.setattr(demo_tomograms, "SHAPE", (32, 48, 48))
    monkeypatch.setattr(demo_tomograms, "PARTICLES", {"ribosome": 3, "rubisco": 8})
    monkeypatch.setitem(demo_recipes._QUICK_DATA, "patches_per_epoch", 2)
    written = make_models(tmp_path, device="cpu", quick=True)
    tasks = {path.stem: describe(load_checkpoint(path)).task for path in written}
    assert tasks == {
        "demo_denoising": "denoising",
        "demo_lamella": "semantic",
        "demo_semantic": "semantic",
        "demo_instance": "instance",
        "demo_embedding": "embedding",
    }
    assert all(path.stat().st_size < 1_000_000 for path in written)
    # A second call finds everything there.
    before = [path.read_bytes() for path in written]

    def learning(self: Training, batch: object, index: int) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(Training, "training_step", learning)
    assert make_models(tmp_path, device="cpu", quick=True) == written
    assert [path.read_bytes() for path in written] == before
