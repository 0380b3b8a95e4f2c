"""A real tomogram of a lamella (EMPIAR-11658) through the whole workflow."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.volume import read_header

ANGSTROM_PER_VOXEL = 31.36


@pytest.mark.slow
def test_denoise_lamella_semantic_centers(shared: Path, golden: Path, tmp_path: Path) -> None:
    data = shared / "data" / "EMPIAR-11658"
    raw = read_header(data / "tomo_171.mrc")

    def run(command: str, step: str, inputs: Path, model: str, **more: object) -> None:
        network = more.pop("network", {})
        config = {
            "data_folder": str(inputs),
            "prediction_folder": str(tmp_path / step),
            "trained_model": str(golden / "ckpt" / model),
            "test_files": ["tomo_171.mrc"],
            "parameters": {"data": {"min": 0, "max": 1, "mean": 0, "std": 1}, "network": network},
            "hyper_parameters": {"batch_size": 2},
            **more,
        }
        path = tmp_path / f"{command}_{step}.yaml"
        path.write_text(yaml.safe_dump(config))
        assert main([command, "--config_file", str(path)]) == 0

    run("denoise_predict", "denoised", data, "denoising.ckpt", scale_prediction=True)
    denoised = tmp_path / "denoised"
    lamella_network = {"threshold": 0.5, "postprocessing": True}
    both = {"output_format": "both"}
    run("semantic_predict", "lamella", denoised, "lamella.ckpt", network=lamella_network, **both)
    classes = {"threshold": 0.3, "out_channels": 5, "min_voxels": 10}
    masked = {**both, "mask_folder": str(tmp_path / "lamella"), "network": classes}
    run("semantic_predict", "semantic", denoised, "semantic5.ckpt", **masked)
    run("semantic_to_centers", "semantic", denoised, "semantic5.ckpt", **masked)

    for path in (
        denoised / "tomo_171.mrc",
        tmp_path / "lamella" / "tomo_171_preds.mrc",
        tmp_path / "semantic" / "tomo_171_preds.mrc",
    ):
        header = read_header(path)
        assert header.shape == raw.shape == (128, 256, 256)
        assert header.voxel_size == pytest.approx((ANGSTROM_PER_VOXEL,) * 3, abs=1e-3)
        assert header.origin == raw.origin

    lamella = mrcfile.read(tmp_path / "lamella" / "tomo_171_preds.mrc")
    labels = mrcfile.read(tmp_path / "semantic" / "tomo_171_preds.mrc")
    assert lamella.any()
    assert set(np.unique(lamella)) <= {0, 1}
    assert not labels[lamella == 0].any()
    particles = pd.read_csv(tmp_path / "semantic" / "tomo_171_particles.csv")
    assert len(particles)
    centres = particles[["centroid-0", "centroid-1", "centroid-2"]].to_numpy()
    assert (centres >= 0).all()
    assert (centres < np.array(raw.shape)).all()
