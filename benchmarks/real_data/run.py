"""Ribosomes in a real tomogram: masks from picks, training, identification, all in Scipion.

    cd benchmarks/real_data; python run.py --tomogram tomo_171.mrc --picks tomo_171_80S.csv

Learns from the expert's picks in one half of the tomogram and looks for ribosomes in the whole; the
other half counts. All of it in a headless project, as a user would do it from the forms. Needs the
environments that ``scripts/test.sh`` makes; run it in Scipion's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from halves import (
    VOXEL_SIZE,
    Points,
    Region,
    box_of,
    found,
    in_half,
    read_tomogram,
    tuned,
    with_box_inside,
    write_region,
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
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--learn-from", choices=["left", "right"], action="append")
    options = parser.parse_args()
    whole = read_tomogram(options.tomogram.absolute(), options.picks.absolute())
    import conftest  # tests/plugin: gives Scipion a home before it is imported

    output = options.output.absolute()
    conftest.prepare_scipion(Path(tempfile.mkdtemp(prefix="cryosiam-real-")))
    results = []
    for side in options.learn_from or ["left", "right"]:
        learned = whole.half(side)
        box = box_of(whole.picks[in_half(whole.picks, side, whole.middle)], whole)
        started = time.monotonic()
        network = picked_in_scipion(learned, whole, options.threshold, box)
        minutes = (time.monotonic() - started) / 60
        classical = with_box_inside(tuned(learned).picks(whole), whole, box)
        other = "right" if side == "left" else "left"
        part, *picked = (
            _in_half(r, other, whole.middle) for r in (whole.picks, network, classical)
        )
        about = {"looked_in": other, "minutes": round(minutes, 1), "box": box}
        results.append({**about, **scores(part, *picked)})
        draw(
            Region(other, whole.half(other).volume, part), picked[0], output / f"picks_{other}.png"
        )
        print(json.dumps(results[-1], indent=1), flush=True)
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    return 0


def _in_half(points: Points, side: str, middle: int) -> Points:
    """The points in a half, with that half's own origin."""
    return points[in_half(points, side, middle)] - (0, 0, middle if side == "right" else 0)


def picked_in_scipion(learned: Region, whole: Region, threshold: float, box: int) -> Points:
    """Import a half with its picks, and the whole; masks and training there, picks here."""
    from pyworkflow.object import Pointer
    from scipion_projects import Project, said
    from tomo.protocols import ProtImportCoordinates3D, ProtImportTomograms

    from cryosiam_plugin import protocols as ours
    from cryosiam_plugin.convert import index_of

    python = os.environ.get("CRYOSIAM_ENGINE_PYTHON") or str(REPOSITORY / ".venv/bin/python")
    project = Project(f"real_{learned.name}", python)
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())

    def run(protocol_class: type, **parameters: Any) -> Any:
        finished = project.run(protocol_class, **parameters)
        if not finished.isFinished():
            sys.exit(said(finished))
        return finished

    def imported(region: Region) -> Any:
        write_region(region, project.path / region.name)
        return run(
            ProtImportTomograms,
            filesPath=str(project.path / region.name),
            filesPattern="TS_*.mrc",
            samplingRate=VOXEL_SIZE,
        )

    known, unknown = imported(learned), imported(whole)
    picks = run(
        ProtImportCoordinates3D,
        filesPath=str(project.path / learned.name),
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
        boxSize=box,
        boxInside=True,
        useGpu=False,
        numberOfThreads=3,
    )
    found_particles = [
        (c.getScore(), *index_of(c)) for c in particles.coordinates.iterCoordinates()
    ]
    # The surest first.
    return np.array(sorted(found_particles, reverse=True), float)[:, 1:]


def scores(expert: Points, network: Points, classical: Points) -> dict[str, Any]:
    """Recall of the expert's picks by the first picks of each picker, and by all the network's.

    Parameters
    ----------
    expert, network, classical
        Picks in the half that was not learned from; of the pickers, the surest first.
    """
    numbers = {f"{factor:g} per expert pick": int(factor * len(expert)) for factor in FACTORS}
    numbers["as many as the network's"] = len(network)
    return {
        "expert_picks": len(expert),
        "recall": {
            name: {
                "picks": number,
                "network": round(float(found(expert, network[:number]).mean()), 3),
                "difference of Gaussians": round(
                    float(found(expert, classical[:number]).mean()), 3
                ),
            }
            for name, number in numbers.items()
        },
    }


def draw(half: Region, picked: Points, path: Path) -> None:
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
        f"{half.name} half: expert picks found (green), missed (red); picks of the network (+)"
    )
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    sys.exit(main())
