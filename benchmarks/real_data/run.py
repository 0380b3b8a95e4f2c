"""Ribosomes in a real tomogram: masks from picks, training, identification, all in Scipion.

    cd benchmarks/real_data; python run.py --tomogram tomo_171.mrc --picks tomo_171_80S.csv

Learns from the expert's picks in one half of the tomogram and looks for ribosomes in the other, in
a headless project, as a user would do it from the forms. Needs the environments that
``scripts/test.sh`` makes; run it in Scipion's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from halves import (
    VOXEL_SIZE,
    DifferenceOfGaussians,
    Half,
    Points,
    found,
    read_halves,
    tuned,
    write_half,
)

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "plugin"))
#: Å; somewhat less than a ribosome's, so that neighbours stay apart.
RADIUS = 3.2 * VOXEL_SIZE
#: Picks for each of the expert's at which recall is compared.
FACTORS = (1.0, 1.5, 2.0, 2.5, 3.0)
TRAINING = {
    "classNames": "ribosome",
    "startFrom": 1,
    "patchSize": 48,
    "batchSize": 2,
    "patchesPerEpoch": 200,
    "validationPatches": 24,
    "maxEpochs": 8,
    "learningRate": 0.003,
    "rotation": 20,
    "noise": 0.05,
    "useGpu": False,
}


def main() -> int:
    """Both directions: from left to right, and from right to left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tomogram", type=Path, required=True)
    parser.add_argument("--picks", type=Path, required=True)
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--learn-from", choices=["left", "right"], action="append")
    options = parser.parse_args()
    halves = read_halves(options.tomogram.absolute(), options.picks.absolute())
    import conftest  # tests/plugin: gives Scipion a home before it is imported

    output = options.output.absolute()
    conftest.prepare_scipion(Path(tempfile.mkdtemp(prefix="cryosiam-real-")))
    results = []
    for side in options.learn_from or ["left", "right"]:
        first, second = halves if side == "left" else halves[::-1]
        started = time.monotonic()
        picked = picked_in_scipion(first, second, options.threshold)
        minutes = (time.monotonic() - started) / 60
        results.append(scores(second, picked, tuned(first), minutes))
        draw(second, picked, output / f"picks_{second.name[3:]}.png")
        print(json.dumps(results[-1], indent=1), flush=True)
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return 0


def picked_in_scipion(first: Half, second: Half, threshold: float) -> Points:
    """Import both halves and the picks of the first; masks, training, picks of the second."""
    from pyworkflow.object import Pointer
    from scipion_projects import Project, said
    from tomo.protocols import ProtImportCoordinates3D, ProtImportTomograms

    from cryosiam_plugin import protocols as ours
    from cryosiam_plugin.convert import index_of

    python = os.environ.get("CRYOSIAM_ENGINE_PYTHON") or str(REPOSITORY / ".venv/bin/python")
    project = Project(f"real_{first.name}", python)
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())

    def run(protocol_class: type, **parameters: Any) -> Any:
        finished = project.run(protocol_class, **parameters)
        if not finished.isFinished():
            sys.exit(said(finished))
        return finished

    def imported(half: Half) -> Any:
        write_half(half, project.path / half.name)
        return run(
            ProtImportTomograms,
            filesPath=str(project.path / half.name),
            filesPattern="TS_*.mrc",
            samplingRate=VOXEL_SIZE,
        )

    known, unknown = imported(first), imported(second)
    picks = run(
        ProtImportCoordinates3D,
        filesPath=str(project.path / first.name),
        filesPattern="TS_*.txt",
        boxSize=12,
        importTomograms=(known, "Tomograms"),
    )
    masks = project.new(
        ours.ProtCryosiamMasksFromCoordinates, classNames="ribosome", radii=f"{RADIUS:.1f}"
    )
    masks.inputCoordinates.append(Pointer(picks, extended="outputCoordinates"))
    project.launch(masks)
    if not project.again(masks).isFinished():
        sys.exit(said(masks))
    model = run(
        ours.ProtCryosiamTrainSemantic,
        inputTomograms=(known, "Tomograms"),
        inputMasks=(masks, "masks"),
        **TRAINING,
    )
    particles = run(
        ours.ProtCryosiamParticles,
        inputTomograms=(unknown, "Tomograms"),
        modelSource=2,
        modelObject=(model, "model"),
        threshold=threshold,
        minimumVoxels=5,
        boxSize=12,
        useGpu=False,
        numberOfThreads=3,
    )
    found_particles = [
        (c.getScore(), *index_of(c)) for c in particles.coordinates.iterCoordinates()
    ]
    # The surest first.
    return np.array(sorted(found_particles, reverse=True), float)[:, 1:]


def scores(
    half: Half, picked: Points, classical: DifferenceOfGaussians, minutes: float
) -> dict[str, Any]:
    """Recall of the expert's picks: of all picks, and of the surest for each number allowed."""
    expert = len(half.picks)
    pickers = {"network": picked}
    for factor in FACTORS:
        number = int(factor * expert)
        pickers[f"network, surest {factor:g} per expert pick"] = picked[:number]
        allowed = replace(classical, per_pick=factor)
        pickers[f"difference of Gaussians, {factor:g} per expert pick"] = allowed.picks(half)
    same_number = replace(classical, per_pick=len(picked) / expert)
    pickers["difference of Gaussians, as many as the network"] = same_number.picks(half)
    return {
        "looked_in": half.name,
        "minutes": round(minutes, 1),
        "expert_picks": expert,
        "pickers": {
            name: {
                "picks": len(points),
                "recall": round(float(found(half.picks, points).mean()), 3),
            }
            for name, points in pickers.items()
        },
    }


def draw(half: Half, picked: Points, path: Path) -> None:
    """Save sections of a half with the expert's picks (circles) and the network's (crosses)."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    hit = found(half.picks, picked)
    figure, axes = plt.subplots(1, 3, figsize=(13, 9), layout="constrained")
    for axis, section in zip(axes, (44, 60, 76), strict=True):
        axis.imshow(half.volume[section - 1 : section + 2].mean(axis=0), cmap="gray", vmin=0.2)
        for points, style in (
            (half.picks[hit], {"marker": "o", "facecolors": "none", "edgecolors": "tab:green"}),
            (half.picks[~hit], {"marker": "o", "facecolors": "none", "edgecolors": "tab:red"}),
            (picked, {"marker": "+", "color": "tab:orange"}),
        ):
            near = points[np.abs(points[:, 0] - section) <= 4]
            axis.scatter(near[:, 2], near[:, 1], s=90, linewidths=1.3, **style)
        axis.set_title(f"section {section}")
        axis.axis("off")
    figure.suptitle(
        f"{half.name[3:]} half: expert picks found (green), missed (red); picks of the network (+)"
    )
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    sys.exit(main())
