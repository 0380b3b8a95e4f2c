"""Ours against the original's sequence of whole-volume operations, on touching particles.

``python benchmarks/instances/separation_speed.py`` (needs ``pip install itk`` for the original's
bilateral filter). Each way runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from cryosiam_engine.scores import match_instances
from cryosiam_engine.separation import SeparationSettings, separate
from cryosiam_engine.separation.joining import join_regions
from cryosiam_engine.simulation.touching import InstanceMaps, ideal_maps, touching_pairs
from whole_volume import Stages, whole_volume

SETTINGS = SeparationSettings(
    threshold_foreground=0.65, distance_type=1, min_center_distance=1, max_center_distance=5
)
BIAS = 0.8
MAPS = ("foreground", "distances", "boundaries")
MULTICUT, PEAK = "multicut", "peak GB"


def main() -> None:
    """Make the maps, run both ways, compare labels and print the tables."""
    arguments = _arguments()
    if arguments.way:
        _child(arguments.way, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = _make_inputs(folder, tuple(arguments.shape), arguments.pairs, arguments.noise)
        reports = {way: _run(way, folder) for way in ("ours", "original")}
        for postprocessing in (False, True):
            _print(reports, folder, truth, postprocessing=postprocessing)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(200, 928, 928))
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.05, help="errors of the maps")
    parser.add_argument("--way", choices=["ours", "original"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _make_inputs(folder: Path, shape: tuple[int, int, int], pairs: int, noise: float) -> np.ndarray:
    truth = touching_pairs(shape, pairs, species="rubisco", voxel_size=7.0)
    maps = ideal_maps(truth, noise=noise)
    for name in MAPS:
        np.save(folder / f"{name}.npy", getattr(maps, name))
    share = 100 * np.count_nonzero(truth) / truth.size
    print(f"{2 * pairs} particles in {shape} voxels, {share:.1f} % foreground, noise {noise}\n")
    return truth


def _run(way: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    stages: dict[str, float] = json.loads(lines.splitlines()[-1])
    return stages


def _child(way: str, folder: Path) -> None:
    """Compute both results one after the other; the second begins where the first ends."""
    maps = InstanceMaps(*(np.load(folder / f"{name}.npy") for name in MAPS))
    compute = _ours if way == "ours" else _original
    regions, instances, stages = compute(maps)
    stages[PEAK] = _peak_gigabytes()
    np.save(folder / f"{way}-False.npy", regions.astype(np.uint32))
    np.save(folder / f"{way}-True.npy", instances.astype(np.uint32))
    print(json.dumps(stages))


def _ours(maps: InstanceMaps) -> tuple[np.ndarray, np.ndarray, Stages]:
    stages = Stages()
    with stages.measured("separation"):
        regions = separate(maps.foreground, maps.distances, SETTINGS)
    with stages.measured(MULTICUT):
        instances = join_regions(regions, maps.boundaries, BIAS)
    return regions, instances, stages


def _original(maps: InstanceMaps) -> tuple[np.ndarray, np.ndarray, Stages]:
    return whole_volume(maps.foreground, maps.distances, maps.boundaries, SETTINGS, BIAS)


def _peak_gigabytes() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def _print(
    reports: dict[str, dict[str, float]],
    folder: Path,
    truth: np.ndarray,
    *,
    postprocessing: bool,
) -> None:
    left_out = {PEAK} if postprocessing else {PEAK, MULTICUT}
    stages = {
        way: {name: s for name, s in report.items() if name not in left_out}
        for way, report in reports.items()
    }
    for report in stages.values():
        report["total"] = sum(report.values())
    print(f"postprocessing {'on' if postprocessing else 'off'}\n")
    print("| stage (s) | original's sequence | ours |\n|---|---|---|")
    for stage in sorted({**stages["original"], **stages["ours"]}, key=lambda name: name == "total"):
        values = [stages[way].get(stage) for way in ("original", "ours")]
        print("|", stage, "|", " | ".join("" if v is None else f"{v:.1f}" for v in values), "|")
    ours, original = (np.load(folder / f"{w}-{postprocessing}.npy") for w in ("ours", "original"))
    agreement = 100 * np.count_nonzero(ours == original) / ours.size
    scores = [match_instances(truth, ours, iou=iou).average_precision for iou in (0.5, 0.75)]
    ratio = stages["original"]["total"] / stages["ours"]["total"]
    print(
        f"\n{ratio:.1f} times faster; equal labels in {agreement:.4f} % of the voxels "
        f"({ours.max()} and {original.max()} instances); average precision of ours "
        f"{scores[0]:.3f} at IoU 0.5, {scores[1]:.3f} at 0.75\n"
    )
    if postprocessing:
        print("peak memory:", {way: f"{report[PEAK]:.1f} GB" for way, report in reports.items()})


if __name__ == "__main__":
    main()
