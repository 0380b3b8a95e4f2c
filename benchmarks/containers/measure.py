"""Sizes of the container images, and what a container adds to every call of the engine.

    python benchmarks/containers/measure.py IMAGE.sif [--engine-python PYTHON] [--oci NAME]

PYTHON has the engine without a container; NAME is an image in buildah's storage, built with
``--layers``. Writes Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

#: What is timed: the shortest call, and one that imports PyTorch and computes.
CALLS = {"--version": ["--version"], "doctor": ["doctor", "--device", "cpu"]}
MEGABYTE = 1e6


def seconds(command: list[str], repeats: int) -> tuple[float, float]:
    """Least wall and CPU time of a command; a first call warms the caches.

    The least is what the call itself takes; anything above it is other programs' doing.
    """
    wall, cpu = [], []
    for _ in range(repeats + 1):
        began, before = time.perf_counter(), os.times()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        after = os.times()
        wall.append(time.perf_counter() - began)
        used = after.children_user + after.children_system
        cpu.append(used - before.children_user - before.children_system)
    return min(wall[1:]), min(cpu[1:])


def start_up(sif: Path, python: str, repeats: int) -> None:
    print("| call | native, s (CPU s) | container, s (CPU s) | added, s |")
    print("|---|---|---|---|")
    native = [python, "-I", "-m", "cryosiam_engine.cli"]
    container = ["apptainer", "exec", str(sif), "cryosiam-engine"]
    for name, words in CALLS.items():
        alone, alone_cpu = seconds([*native, *words], repeats)
        inside, inside_cpu = seconds([*container, *words], repeats)
        print(
            f"| `{name}` | {alone:.2f} ({alone_cpu:.2f}) | {inside:.2f} ({inside_cpu:.2f}) "
            f"| {inside - alone:.2f} |"
        )


def layers(name: str) -> None:
    """Uncompressed size of each layer, with the step that made it."""
    found = buildah("inspect", name)
    kept = [step for step in found["OCIv1"]["history"] if not step.get("empty_layer")]
    sizes = layer_sizes()
    print("| layer | MB |\n|---|---|")
    for step, digest in zip(kept, found["OCIv1"]["rootfs"]["diff_ids"], strict=True):
        words = " ".join(step["created_by"].split())
        print(f"| `{words[-90:]}` | {sizes.get(digest, 0) / MEGABYTE:.1f} |")


def layer_sizes() -> dict[str, int]:
    """Bytes of every layer in buildah's storage, by its digest."""
    store = buildah("info")["store"]
    index = Path(store["GraphRoot"]) / f"{store['GraphDriverName']}-layers" / "layers.json"
    known = json.loads(index.read_text())
    return {one["diff-digest"]: one["diff-size"] for one in known if "diff-digest" in one}


def buildah(*words: str) -> Any:
    """What buildah says, in JSON."""
    command = ["buildah", *words]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sif", type=Path, metavar="IMAGE.sif")
    parser.add_argument("--engine-python", help="Python with the engine, without a container")
    parser.add_argument("--oci", metavar="NAME", help="image in buildah's storage")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    print(f"{args.sif.name}: {args.sif.stat().st_size / MEGABYTE:.0f} MB\n")
    if args.engine_python:
        start_up(args.sif, args.engine_python, args.repeats)
    if args.oci:
        print()
        layers(args.oci)


if __name__ == "__main__":
    main()
