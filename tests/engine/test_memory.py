"""The promise: a prediction peaks at 3 x the float32 tomogram + 1.5 GB, whatever its classes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cryosiam_engine.networks import random_checkpoint
from cryosiam_engine.volume import write_mrc

CLASSES = 89
#: Runs the command line and prints its peak memory in kB. What the system tells a parent of its
#: child would include the parent's own memory, from before the child's program was loaded.
MEASURED = """
import re, sys
from pathlib import Path
from cryosiam_engine.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
sys.exit(code)
"""
#: Probabilities and distances of all classes would alone take 1.9 GB at this size.
SHAPE = (96, 168, 168)


@pytest.mark.slow
@pytest.mark.parametrize("on_disk", [False, True], ids=["labels", "probabilities on disk"])
def test_many_classes(
    on_disk: bool,
    write_config: Callable[..., Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    model = random_checkpoint("semantic", out_channels=CLASSES, seed=1, patch_size=64)
    torch.save(model, tmp_path / "model.ckpt")
    data = tmp_path / "data"
    noise = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    write_mrc(data / "TS_01.mrc", noise, voxel_size=10)
    config = write_config(
        "absent",
        {"threshold": 0.1},
        data_folder=str(data),
        trained_model=str(tmp_path / "model.ckpt"),
        save_internal_files=on_disk,
    )
    command = [sys.executable, "-c", MEASURED, "semantic_predict", "--config_file", str(config)]
    done = subprocess.run([*command, "--device", "cpu"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    peak, bound = int(done.stdout) * 1024, 3 * 4 * np.prod(SHAPE) + 1.5e9
    what = "labels only" if not on_disk else "with probabilities on disk"
    record_property(
        f"peak memory of {CLASSES} classes",
        f"{what}: {peak / 1e9:.2f} GB of {bound / 1e9:.2f} GB allowed",
    )
    assert peak < bound
    with h5py.File(tmp_path / "out" / "TS_01_preds.h5") as file:
        assert len(np.unique(file["labels"][()])) > 2
        if on_disk:
            assert file["probs"].shape == (CLASSES, *SHAPE)
            np.testing.assert_allclose(file["probs"][:, 40:42].sum(0), 1, atol=1e-4)
    (tmp_path / "out" / "TS_01_preds.h5").unlink()
