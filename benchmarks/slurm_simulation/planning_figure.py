"""What the number of GPUs and the tomograms of a task do, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from planning_tables import USUAL as WITH_LIMIT
from simulation import simulate_run

#: A time limit that is long enough for the largest task.
USUAL = replace(WITH_LIMIT, time="7-00")
#: Told apart by colour-blind eyes.
COLOURS = ("#2a6fbb", "#d9772b", "#5aa469")
PER_TASK = (1, 2, 5, 10, 20, 50, 100, 250)
SECONDS = (20.0, 60.0, 600.0)
GPUS = (1, 2, 4, 8, 16, 32, 64, 128)


def draw(path: Path) -> None:
    """Draw three panels, all of a thousand tomograms, and save them as one PNG."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    _hours(axes[0])
    calm = {
        f"{seconds:.0f} s": [_share(seconds=seconds, per_task=per_task) for per_task in PER_TASK]
        for seconds in SECONDS
    }
    _shares(axes[1], calm, "16 GPUs, by the time of a tomogram")
    rough = {
        name: [_share(per_task=per_task, **change) for per_task in PER_TASK]
        for name, change in (
            ("1 % killed", {}),
            ("5 % killed", {"failure_rate": 0.05}),
            ("4 preemptions per day and GPU", {"preemptions_per_day": 4.0}),
        )
    }
    _shares(axes[2], rough, "16 GPUs, 60 s, by what goes wrong")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _hours(axis: plt.Axes) -> None:
    for colour, seconds in zip(COLOURS, SECONDS, strict=True):
        hours = [
            simulate_run(replace(USUAL, seconds=seconds, gpus=gpus)).makespan / 3600
            for gpus in GPUS
        ]
        axis.loglog(GPUS, hours, "o-", color=colour, label=f"{seconds:.0f} s")
    axis.set(xlabel="GPUs", ylabel="hours", title="1 tomogram per task, by its time")
    axis.set_xticks(GPUS, map(str, GPUS))
    axis.set_yticks((0.1, 1, 10, 100), ("0.1", "1", "10", "100"))
    _finish(axis)


def _share(**change: Any) -> float:
    scenario = replace(USUAL, **change)
    return 100 * simulate_run(scenario).efficiency(scenario.gpus)


def _shares(axis: plt.Axes, lines: dict[str, Sequence[float]], title: str) -> None:
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=True):
        axis.semilogx(PER_TASK, values, "o-", color=colour, label=name)
    axis.set(xlabel="tomograms per task", ylabel="GPUs' time in results, %", title=title)
    axis.set_xticks(PER_TASK, map(str, PER_TASK))
    axis.set_ylim(0, 102)
    _finish(axis)


def _finish(axis: plt.Axes) -> None:
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.title.set_size(10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, loc="best")
