"""What each parameter of the separation does: one figure per parameter, for the documentation.

``python benchmarks/instances/parameters.py --output docs/images`` (needs matplotlib). Input are the
maps that a good but not perfect network would predict of touching particles, so that the algorithm
is measured and no network.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cryosiam_engine.scores import match_instances
from cryosiam_engine.separation import SeparationSettings, separate
from cryosiam_engine.separation.joining import join_regions
from cryosiam_engine.simulation.touching import InstanceMaps, ideal_maps, touching_pairs
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

Labels = NDArray[np.integer]

SHAPE, PAIRS, NOISE, SPECKS = (72, 224, 224), 40, 0.1, 60
#: What CryoSiam's authors recommend.
RECOMMENDED = SeparationSettings(
    threshold_foreground=0.65, distance_type=1, min_center_distance=1, max_center_distance=5
)
#: Compact particles; and two-lobed ones, which are split too far, for the joining.
COMPACT, LOBED = ("rubisco", 7.0), ("ribosome", 13.48)
BLUE, ORANGE, INK = "#2a6fbb", "#d9772b", "#333333"


@dataclass(frozen=True)
class Experiment:
    """One parameter: its values on the axis, and the three that are shown as pictures."""

    name: str
    title: str
    values: tuple[float, ...]
    shown: tuple[float, float, float]
    names: dict[float, str] | None = None


EXPERIMENTS = (
    Experiment(
        "threshold_foreground",
        "Foreground threshold",
        tuple(np.round(np.arange(0.1, 0.96, 0.05), 2)),
        (0.2, 0.65, 0.9),
    ),
    Experiment(
        "min_center_distance",
        "Smallest centre distance (voxels)",
        (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5),
        (1, 2.5, 5),
    ),
    Experiment(
        "max_center_distance",
        "Largest centre distance (voxels)",
        (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5),
        (1, 3, 5),
    ),
    Experiment(
        "distance_type",
        "Distance that is used",
        (0, 1, 2),
        (0, 1, 2),
        {0: "predicted", 1: "mean", 2: "Euclidean"},
    ),
    Experiment(
        "boundary_bias",
        "Boundary bias (joining on)",
        tuple(np.round(np.arange(0.1, 0.96, 0.05), 2)),
        (0.2, 0.4, 0.8),
    ),
)


def main() -> None:
    """Draw every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    folder = parser.parse_args().output
    for experiment in EXPERIMENTS:
        species, voxel_size = LOBED if experiment.name == "boundary_bias" else COMPACT
        truth = touching_pairs(SHAPE, PAIRS, species=species, voxel_size=voxel_size, seed=5)
        drawn = _with_specks(truth) if experiment.name == "min_center_distance" else truth
        maps = ideal_maps(drawn, noise=NOISE, seed=6)
        results = {value: _result(maps, experiment.name, value) for value in experiment.values}
        _draw(experiment, results, truth, folder / f"instances-{experiment.name}.png")


def _result(maps: InstanceMaps, name: str, value: float) -> Labels:
    if name == "boundary_bias":
        regions = separate(maps.foreground, maps.distances, RECOMMENDED)
        return join_regions(regions, maps.boundaries, value)
    changed: dict[str, Any] = {name: value}
    return separate(maps.foreground, maps.distances, replace(RECOMMENDED, **changed))


def _with_specks(truth: Labels) -> Labels:
    """Add balls of 2 and 3 voxels radius, which a network takes for particles and nobody else."""
    rng = np.random.default_rng(7)
    labels = truth.copy()
    for number in range(SPECKS):
        radius = 2 + number % 2
        ball = np.linalg.norm(np.mgrid[[slice(-radius, radius + 1)] * 3], axis=0) <= radius
        corner = rng.integers(0, np.array(SHAPE) - 2 * radius)
        box = tuple(slice(int(a), int(a) + 2 * radius + 1) for a in corner)
        if not labels[box].any():
            labels[box][ball] = truth.max() + 1 + number
    return labels


def _draw(experiment: Experiment, results: dict[float, Labels], truth: Labels, path: Path) -> None:
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(
        1, 4, figsize=(11, 3.1), width_ratios=(1.5, 1, 1, 1), constrained_layout=True
    )
    _draw_scores(axes[0], experiment, results, truth)
    for axis, value in zip(axes[1:], experiment.shown, strict=True):
        _draw_section(axis, results[value], _text(experiment, value))
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(path)


def _draw_scores(
    axis: Axes, experiment: Experiment, results: dict[float, Labels], truth: Labels
) -> None:
    style = {"marker": "o", "markersize": 4, "linestyle": "" if experiment.names else "-"}
    for iou, colour in ((0.5, BLUE), (0.75, ORANGE)):
        scores = [
            match_instances(truth, labels, iou=iou).average_precision for labels in results.values()
        ]
        axis.plot(list(results), scores, color=colour, label=f"IoU {iou:g}", **style)
    axis.set(ylim=(-0.02, 1.05), xlabel=experiment.title, ylabel="average precision")
    recommended = getattr(RECOMMENDED, experiment.name, 0.8)
    axis.axvline(recommended, color=INK, linewidth=0.8, linestyle=":")
    if experiment.names:
        axis.set_xticks(list(results), [experiment.names[value] for value in results])
        axis.set_xlim(-0.5, 2.5)
    axis.legend(frameon=False, loc="best")


def _draw_section(axis: Axes, labels: Labels, title: str) -> None:
    section = labels[SHAPE[0] // 2]
    colours = mpl.colormaps["tab20"](np.arange(20))
    shown = np.where(section > 0, 1 + section.astype(np.int64) * 7 % 20, 0)
    axis.imshow(
        shown,
        cmap=ListedColormap(np.vstack([[1, 1, 1, 1], colours])),
        vmin=0,
        vmax=20,
        interpolation="nearest",
    )
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{title}: {len(np.unique(labels)) - 1} instances", fontsize=9)
    for side in axis.spines.values():
        side.set_visible(True)
        side.set_linewidth(0.5)


def _text(experiment: Experiment, value: float) -> str:
    return experiment.names[value] if experiment.names else f"{value:g}"


if __name__ == "__main__":
    main()
