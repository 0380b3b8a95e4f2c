"""The scores of all methods against the signal-to-noise ratio."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from names import OURS, Results
from tables import TASKS

SHOWN = (
    "denoising",
    "foreground",
    "instances",
    "clusters",
    "centres of ribosome",
    "centres of proteasome",
    "centres of rubisco",
)
CLASSES = ("class membrane", "class ribosome", "class proteasome", "class rubisco")
#: Told apart by colour-blind eyes; ours is the first.
COLOURS = ("#2a6fbb", "#d9772b", "#777777", "#bbbbbb")


def draw_scores(by_snr: dict[str, Results], path: Path) -> None:
    """Draw a panel per task and save them as one PNG."""
    figure, axes = plt.subplots(2, 4, figsize=(13, 6), sharey=True, layout="constrained")
    snrs = list(by_snr)
    for axis, task in zip(axes.flat, SHOWN, strict=False):
        methods = sorted(by_snr[snrs[0]][task], key=lambda name: name != OURS)
        lines = {name: [by_snr[snr][task][name] for snr in snrs] for name in methods}
        _panel(axis, snrs, lines, TASKS[task])
    dice = {TASKS[task][0]: [by_snr[snr][task][OURS] for snr in snrs] for task in CLASSES}
    _panel(axes.flat[-1], snrs, dice, ("Classes", "Dice, demo model"))
    figure.supxlabel("signal-to-noise ratio of the tomograms", fontsize=10)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _panel(
    axis: plt.Axes, snrs: list[str], lines: dict[str, list[float]], names: tuple[str, str]
) -> None:
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
        axis.plot(snrs, values, "o-", color=colour, label=name)
    axis.set_title(f"{names[0]}\n{names[1]}", fontsize=7)
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, loc="best")
