"""The engine itself on a real Slurm: the same results as at home, and trainings that go on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.config.loading import load_config
from cryosiam_engine.networks import random_checkpoint
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.volume import read_volume, write_mrc

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from training_runs import training_values, write_training_data

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

#: Asked of each task: a share of a node, so that several run at once.
TASK = ["--cpus", "1", "--mem", "1300", "--time", "20"]


@pytest.fixture
def data(place: Path) -> Path:
    """Twelve tomograms of 32 x 64 x 64 voxels, one of them damaged; a model, a configuration."""
    rng = np.random.default_rng(0)
    for number in range(12):
        path = place / "data" / f"TS_{number:02d}.mrc"
        write_mrc(path, rng.random((32, 64, 64), np.float32), voxel_size=13.48)
    (place / "data" / "TS_05.mrc").write_bytes(b"no tomogram")
    torch.save(random_checkpoint("denoising", out_channels=1, seed=1), place / "denoise.ckpt")
    for name in ("here", "there"):
        values = {
            "data_folder": str(place / "data"),
            "prediction_folder": str(place / name),
            "trained_model": str(place / "denoise.ckpt"),
            "parameters": {"data": {"min": 0, "max": 1, "mean": 0, "std": 1}},
        }
        (place / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return place


def test_twelve_tomograms_as_at_home(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = str(data / "there.yaml")
    words = ["slurm", "denoise_predict", "--config_file", config, *TASK, "--gres", "gpu:1"]
    assert main([*words, "--tomograms-per-task", "6", "--array-cap", "2"]) == 1
    assert "TS_05: failed (engine error)" in capfd.readouterr().err
    assert main(["denoise_predict", "--config_file", str(data / "here.yaml")]) == 1
    results = sorted(path.name for path in (data / "here").glob("*.mrc"))
    assert len(results) == 11
    for name in results:
        one, other = (read_volume(data / where / name).data for where in ("here", "there"))
        assert np.array_equal(one, other)
    assert main(["slurm", "status", str(data / "there")]) == 1
    assert "done 11, failed 1 of 12" in capfd.readouterr().out


def test_a_training_goes_on_exactly_after_its_time_limit(place: Path) -> None:
    """The warning that Slurm gives before the limit, given by the test."""
    data = write_training_data(place / "tomograms")
    for name in ("here", "there"):
        values = training_values(data, place / name)
        del values["task"]
        values["hyper_parameters"]["max_epochs"] = 15
        (place / f"{name}.yaml").write_text(yaml.safe_dump(values))
    common = ["--device", "cpu", "--precision", "fp32"]
    words = ["semantic_train", "--config_file", str(place / "there.yaml"), *common]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [sys.executable, "-m", "cryosiam_engine.cli", "slurm", *words, *TASK], env=environment
    )
    steps = place / "there" / "metrics.jsonl"
    end = time.monotonic() + 120
    while not steps.exists() or steps.read_text().count("\n") < 5:
        assert time.monotonic() < end
        time.sleep(0.1)
    folder = next((place / "there" / "slurm").iterdir())
    job = Journal.read(folder).submissions[0].job_id
    subprocess.run(["scancel", "--batch", "--signal=USR1", f"{job}_0"], check=True)
    assert main(["semantic_train", "--config_file", str(place / "here.yaml"), *common]) == 0
    assert run.wait(240) == 0
    assert "queued again" in (folder / "array_001" / "logs" / "0.log").read_text()
    assert load_config(folder / "config_resume.yaml", "semantic_train").continue_training
    one, other = (
        torch.load(place / where / "model" / "last.ckpt", weights_only=True)["state_dict"]
        for where in ("here", "there")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
