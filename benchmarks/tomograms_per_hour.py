"""Tomograms per hour with the full-size network: reference against auto, float32 against bf16.

Untrained weights of the documented full size; the time does not depend on their values. Without a
GPU only a small volume is sensible: --shape 128 160 160.

    python benchmarks/tomograms_per_hour.py [--shape 464 928 960] [--device cuda]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from cryosiam_engine.dense import RunOptions, load_model
from cryosiam_engine.label_stitching import classify
from cryosiam_engine.networks import random_checkpoint
from cryosiam_engine.sliding_window import Tiling
from cryosiam_engine.tiling import Region
from torch import Tensor

#: Task, output channels, and the output that is computed.
MODELS = (("denoising", 1, "denoised"), ("semantic", 14, "logits"))


def seconds(
    path: Path, task: str, head: str, volume: np.ndarray, options: RunOptions
) -> tuple[float, str]:
    """Time one prediction, labels or floats on the host included; and say how it was tiled."""
    model = load_model(path, task, options, batch_size=3)  # type: ignore[arg-type]
    dtype = torch.float32 if task == "denoising" else torch.uint8
    canvas = model.window.canvas(volume.shape, dtype)

    def keep(region: Region, outputs: Mapping[str, Tensor]) -> None:
        output = outputs[head]
        canvas[region] = output[0] if task == "denoising" else classify(output, 0.5)[0]

    started = time.perf_counter()
    plan = model.window.run(volume, [head], keep)
    canvas.cpu()
    tiles = f"{len(plan.tiles)} of {' × '.join(map(str, plan.tile_shape))}"
    return time.perf_counter() - started, tiles


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=[464, 928, 960])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "auto", "bf16"])
    parser.add_argument("--tilings", nargs="+", default=["reference", "auto"])
    args = parser.parse_args()
    volume = np.random.default_rng(0).uniform(0, 1, args.shape).astype(np.float32)
    name = "CPU" if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    print(f"{name}, torch {torch.__version__}, {' × '.join(map(str, args.shape))} voxels\n")
    print("| network | tiling | precision | tiles | seconds | tomograms per hour |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for task, channels, head in MODELS:
            path = Path(folder) / f"{task}.ckpt"
            torch.save(random_checkpoint(task, out_channels=channels, full_size=True), path)
            tilings: list[Tiling] = args.tilings
            for tiling in tilings:
                for precision in args.precisions:
                    options = RunOptions(args.device, precision, tiling)
                    took, tiles = seconds(path, task, head, volume, options)
                    print(
                        f"| {task}, {channels} | {tiling} | {precision} | {tiles} "
                        f"| {took:.0f} | {3600 / took:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
