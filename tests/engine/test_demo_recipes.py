from __future__ import annotations

from pathlib import Path

import pytest
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.networks import describe
from cryosiam_engine.training import demo_tomograms
from cryosiam_engine.training.demo_recipes import MODELS, make_models, recipe


@pytest.mark.parametrize("model", MODELS)
def test_recipes_are_valid(tmp_path: Path, model: str) -> None:
    names = [f"TS_{number}.mrc" for number in range(4)]
    config = TrainConfig.model_validate(recipe(model, tmp_path, names))
    assert config.val_files == names[2:]
    assert config.continue_training


@pytest.mark.slow
def test_models_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_tomograms, "SHAPE", (48, 64, 64))
    monkeypatch.setattr(demo_tomograms, "PARTICLES", {"ribosome": 4, "rubisco": 8})
    written = make_models(tmp_path, ("denoising", "semantic"), device="cpu", quick=True)
    tasks = [describe(load_checkpoint(path)).task for path in written]
    assert tasks == ["denoising", "semantic"]
    assert all(path.stat().st_size < 1_000_000 for path in written)
