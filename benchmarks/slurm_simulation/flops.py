"""Floating-point operations of one tomogram at every step, with networks of the published size.

``python benchmarks/slurm_simulation/flops.py`` counts what the engine would compute, with its own
networks and its own tiles, and writes operations.json beside this file. Nothing is computed: the
tensors have shapes only.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from cryosiam_engine.embeddings.network import EmbeddingNetwork
from cryosiam_engine.networks import (
    DenseModel,
    InferenceNetwork,
    SimSiam,
    build_network,
    prepare_for_inference,
    random_checkpoint,
)
from cryosiam_engine.networks.describe import read_description
from cryosiam_engine.networks.description import Task
from cryosiam_engine.sliding_window import GPU_SHARE, HEAD_SHARE, SlidingWindow
from cryosiam_engine.tiling import Shape
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).parent
SHAPE = (464, 928, 960)
#: Step, kind of model, its classes, and the heads that are computed.
DENSE: tuple[tuple[str, Task, int, Sequence[str]], ...] = (
    ("denoise", "denoising", 1, ["denoised"]),
    ("lamella mask", "semantic", 1, ["logits"]),
    ("14 classes", "semantic", 14, ["logits"]),
    ("89 classes", "semantic", 89, ["logits"]),
    ("instances", "instance", 1, ["foreground", "distances"]),
)
#: Edge of the volume that is counted, a multiple of all strides.
_EDGE = 64


def main() -> None:
    """Count and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[24, 80], help="of the GPU")
    parser.add_argument("--output", type=Path, default=HERE / "operations.json")
    args = parser.parse_args()
    shape = cast(Shape, tuple(args.shape))
    steps = [
        {"step": step, **count_dense(task, classes, heads, shape, args.gigabytes)}
        for step, task, classes, heads in DENSE
    ]
    counted = {"shape": shape, "steps": steps, "teraflop_per_particle": count_embedding() / 1e12}
    args.output.write_text(json.dumps(counted, indent=1) + "\n")


def count_dense(
    task: Task, classes: int, heads: Sequence[str], shape: Shape, gigabytes: Sequence[float]
) -> dict[str, Any]:
    """Operations per tomogram in units of 1e15, for both kinds of tiling and several GPUs."""
    network = prepare_for_inference(cast(DenseModel, untrained(task, classes))).to("meta")
    volume = torch.empty(1, 1, _EDGE, _EDGE, _EDGE, device="meta")
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            features = network.features(volume)
        per_voxel = counter.get_total_flops() / _EDGE**3
        with FlopCounterMode(display=False) as counter:
            network.heads(features, heads)
        head_per_voxel = counter.get_total_flops() / _EDGE**3
    counted = {}
    for name, window in windows(network, gigabytes).items():
        plan = window.plan(shape)
        margin = 2 * network.head_margin
        head_voxels = sum(
            math.prod(kept.stop - kept.start + margin for kept in tile.keep) for tile in plan.tiles
        )
        total = plan.computed_voxels * per_voxel + head_voxels * head_per_voxel
        counted[name] = {
            "petaflop": round(total / 1e15, 3),
            "tiles": f"{len(plan.tiles)} of {' × '.join(map(str, plan.tile_shape))}",
        }
    return counted


def windows(network: InferenceNetwork, gigabytes: Sequence[float]) -> dict[str, SlidingWindow]:
    """The original's tiles, and the tiles that GPUs of so much free memory would get."""
    device, bytes_each = torch.device("cpu"), network.feature_bytes_per_voxel(4)
    found = {"reference": SlidingWindow(network, device, torch.float32, "reference", 1)}
    for size in gigabytes:
        voxels = int((1 - HEAD_SHARE) * GPU_SHARE * size * 1e9 / bytes_each)
        window = SlidingWindow(network, device, torch.float32, "auto", 1, max_voxels=voxels)
        found[f"auto, {size:g} GB"] = window
    return found


def count_embedding(edge: int = 64) -> int:
    """Operations for one particle."""
    network = EmbeddingNetwork(cast(SimSiam, untrained("embedding", 1)), contrastive=True)
    volume = torch.empty(1, 1, edge, edge, edge, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.to("meta")(volume)
    return int(counter.get_total_flops())


def untrained(task: Task, classes: int) -> torch.nn.Module:
    """A network of the published size."""
    values = random_checkpoint(task, out_channels=classes, full_size=True)["hyper_parameters"]
    return build_network(read_description(task, values, Path("untrained")))


if __name__ == "__main__":
    main()
