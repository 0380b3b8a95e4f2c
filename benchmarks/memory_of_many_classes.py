"""Peak memory and time of a prediction with many classes, against the original's way.

The baseline does what the original does with the same network: every class's probabilities and
distances as float32 volumes in host memory, both heads, half-overlapping tiles of which unused
ones are computed too. It needs 8 bytes per voxel and class (23 GB for 89 classes of
200 x 400 x 400 voxels), so by default it is measured on an eighth of the volume.

    python benchmarks/memory_of_many_classes.py [--classes 89] [--shape 200 400 400]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
import yaml
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.networks import load_network, random_checkpoint
from cryosiam_engine.volume import read_volume, write_mrc

PATCH = 64


def original_way(checkpoint: Path, tomogram: Path, output: Path) -> None:
    """Predict as the original does, with its modules in evaluation mode and its accumulators."""
    network = load_network(load_checkpoint(checkpoint), "semantic")
    volume = read_volume(tomogram).data
    step, margin = PATCH // 2, PATCH // 4
    padded = np.pad(volume, PATCH, mode="wrap")
    n_classes = network.head.semantic_head[-1].out_channels
    probabilities = np.zeros((n_classes, *volume.shape), np.float32)
    distances = np.zeros((n_classes, *volume.shape), np.float32)
    labels = np.zeros(volume.shape, np.uint8)
    starts = [
        (z, y, x)
        for z in range(0, volume.shape[0], step)
        for y in range(0, volume.shape[1], step)
        for x in range(0, volume.shape[2], step)
    ]
    for start in starts:
        tile = padded[tuple(slice(s + PATCH, s + 2 * PATCH) for s in start)]
        with torch.no_grad():
            outputs = network(torch.from_numpy(tile.copy())[None, None])
        probability = outputs["logits"][0].softmax(0).numpy()
        if any(s >= n - margin for s, n in zip(start, volume.shape, strict=True)):
            continue  # computed for nothing
        source, target = [], []
        for s, n in zip(start, volume.shape, strict=True):
            low = 0 if s == 0 else margin
            high = n - s if s + PATCH >= n and s else PATCH - margin
            high = min(high, n - s)
            source.append(slice(low, high))
            target.append(slice(s + low, s + high))
        kept = (slice(None), *source)
        probabilities[(slice(None), *target)] = probability[kept]
        distances[(slice(None), *target)] = outputs["distances"][0].numpy()[kept]
        best = np.where(probability[kept] < 0.1, 0, probability[kept])
        labels[tuple(target)] = best.argmax(0)
    with h5py.File(output, "w") as file:
        file["labels"] = labels


def measure(arguments: list[str]) -> dict[str, float]:
    """Run a Python process; its wall time and peak resident memory."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {arguments}")
    return {"seconds": time.perf_counter() - started, "peak_bytes": usage.ru_maxrss * 1024}


def engine(folder: Path, tiling: str) -> dict[str, float]:
    """Measure our engine on the folder's tomogram."""
    config = {
        "data_folder": str(folder / "tomograms"),
        "prediction_folder": str(folder / tiling),
        "trained_model": str(folder / "model.ckpt"),
        "parameters": {"network": {"threshold": 0.1}},
        "hyper_parameters": {"batch_size": 1},
    }
    path = folder / f"{tiling}.yaml"
    path.write_text(yaml.safe_dump(config))
    command = ["-m", "cryosiam_engine.cli", "semantic_predict", "--config_file", str(path)]
    return measure([*command, "--tiling", tiling, "--device", "cpu"])


def prepare(folder: Path, shape: tuple[int, ...], classes: int) -> None:
    """Write an untrained small network and a noise tomogram."""
    (folder / "tomograms").mkdir(parents=True)
    model = random_checkpoint("semantic", out_channels=classes, seed=1, patch_size=PATCH)
    torch.save(model, folder / "model.ckpt")
    noise = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    write_mrc(folder / "tomograms" / "TS_01.mrc", noise, voxel_size=10)


def agreement(one: Path, other: Path) -> float:
    """Share of voxels with the same label in two HDF5 files."""
    with h5py.File(one) as a, h5py.File(other) as b:
        return float(np.mean(a["labels"][()] == b["labels"][()]))


def row(name: str, shape: tuple[int, ...], result: dict[str, float]) -> str:
    """One line of the table."""
    voxels = float(np.prod(shape))
    bound = 3 * 4 * voxels + 1.5e9
    size = " × ".join(map(str, shape))
    return (
        f"| {name} | {size} | {result['peak_bytes'] / 1e9:.2f} | {bound / 1e9:.2f} "
        f"| {result['seconds']:.0f} | {result['seconds'] / voxels * 1e6:.1f} |"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=89)
    parser.add_argument("--shape", type=int, nargs=3, default=[200, 400, 400])
    parser.add_argument("--baseline-shape", type=int, nargs=3, default=[100, 200, 200])
    parser.add_argument("--original-way", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.original_way:
        original_way(*map(Path, args.original_way))
        return
    print("| way | voxels | peak GB | 3 × float32 + 1.5 GB | seconds | µs per voxel |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        small, large = Path(temporary) / "small", Path(temporary) / "large"
        prepare(small, args.baseline_shape, args.classes)
        files = (small / "model.ckpt", small / "tomograms" / "TS_01.mrc", small / "baseline.h5")
        baseline = measure([__file__, "--original-way", *map(str, files)])
        print(row("original's way", args.baseline_shape, baseline), flush=True)
        print(row("ours, reference", args.baseline_shape, engine(small, "reference")), flush=True)
        print(row("ours, auto", args.baseline_shape, engine(small, "auto")), flush=True)
        ours = small / "reference" / "TS_01_preds.h5"
        same = agreement(ours, small / "baseline.h5")
        prepare(large, args.shape, args.classes)
        print(row("ours, auto", args.shape, engine(large, "auto")), flush=True)
    needed = 8 * args.classes * np.prod(args.shape, dtype=float) / 1e9
    print(f"\nLabels of reference tiling equal to the baseline's in {same:.4%} of the voxels.")
    print(f"The baseline's class volumes alone would take {needed:.1f} GB at the larger size.")
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
