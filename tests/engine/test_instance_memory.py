"""The promise: instance segmentation takes at most 8 x the float32 tomogram beside the network.

The network is replaced by maps of touching balls with a little noise, in clusters of 27 or all in
one piece as large as the tomogram, so that it takes no hour. What the process holds anyway
(libraries, the solver) is measured with a tiny one first.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from cryosiam_engine.volume import write_mrc

SHAPE = (160, 336, 336)

MEASURED = """
import re, sys
from pathlib import Path
import torch
from cryosiam_engine.cli import main
from cryosiam_engine.sliding_window import SlidingWindow

def balls(self, volume, heads, consume, *, needed=None, progress=None):
    grid = [torch.arange(n) for n in volume.shape[1:]]
    y, x = torch.meshgrid(*(axis % 18 - 9.0 for axis in grid), indexing="ij")
    gaps = torch.meshgrid(*(axis // 18 % 4 == 3 for axis in grid), indexing="ij")
    for z in range(volume.shape[0]):
        inside = (9.6 - (x * x + y * y + (z % 18 - 9.0) ** 2).sqrt())[None, None]
        if sys.argv[2] == "clusters":
            inside[:, :, gaps[0] | gaps[1] | torch.tensor(z // 18 % 4 == 3)] = -5
        inside = inside + 0.01 * torch.rand(inside.shape)
        outputs = {"foreground": 4 * inside, "distances": inside.clip(-1, 5),
                   "boundaries": 1 - 2 * inside.abs()}
        whole = (slice(z, z + 1), slice(0, volume.shape[1]), slice(0, volume.shape[2]))
        consume(whole, {name: outputs[name] for name in heads})

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text()).group(1))

SlidingWindow.run = balls
config = sys.argv[1]
def predict(*names):
    options = [word for name in names for word in ("--filename", name)]
    code = main(["instance_predict", "--config_file", config, "--device", "cpu", *options])
    assert code == 0, code
predict("tiny.mrc")
before = peak()
predict("TS_01.mrc", "TS_02.mrc")
print(before, peak())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("balls", "raw"), [("clusters", False), ("one piece", False), ("one piece", True)]
)
def test_peak(
    balls: str,
    raw: bool,
    write_config: Callable[..., Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    data = tmp_path / "data"
    noise = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    write_mrc(data / "tiny.mrc", noise[:32, :64, :64], voxel_size=10)
    for stem in ("TS_01", "TS_02"):
        write_mrc(data / f"{stem}.mrc", noise, voxel_size=10)
    network = {
        "threshold_foreground": 0.5,
        "min_center_distance": 1,
        "max_center_distance": 4,
        "distance_type": 1,
        "boundary_bias": 0.2,
    }
    config = write_config(
        "instance", network, data_folder=str(data), output_format="both", save_raw_predictions=raw
    )
    command = [sys.executable, "-c", MEASURED, str(config), balls]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    before, peak = (int(word) * 1024 for word in done.stdout.split()[-2:])
    tomogram = 4 * int(np.prod(SHAPE))
    record_property(
        "peak memory of instance segmentation",
        f"{balls}, {'with' if raw else 'without'} raw maps: "
        f"{(peak - before) / tomogram:.2f} x the tomogram",
    )
    with h5py.File(tmp_path / "out" / "TS_02_instance_preds.h5") as file:
        assert file["instances"][()].max() > 500
    assert peak - before < 8 * tomogram
