"""Learning curves: losses, Dice of each class, learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cryosiam_plugin.protocols.class_lists import class_name
from cryosiam_plugin.protocols.training_course import Course, Epoch, Step
from cryosiam_plugin.viewers.colours import PALETTE, hexadecimal

#: Points of a curve that can be told apart.
_POINTS = 400
_TRAINING, _VALIDATION, _BEST, _FAINT = "#0072b2", "#d55e00", "#009e73", "#b8cfe0"
_SIZE, _DPI = (11.0, 5.6), 110


def save_curves(course: Course, names: Mapping[int, str], path: Path) -> None:
    """Write the curves as a picture.

    Parameters
    ----------
    course
        Of the training.
    names
        Of the classes.
    path
        The PNG file.
    """
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    draw_curves(figure, course, names)
    figure.savefig(path)


def draw_curves(
    figure: Figure, course: Course, names: Mapping[int, str], steps_per_epoch: float = 0.0
) -> None:
    """Draw all curves, in place of what the figure showed.

    Parameters
    ----------
    figure
        Of any size.
    course
        Of the training; it may be empty.
    names
        Of the classes.
    steps_per_epoch
        Where it is known before the first epoch is whole.
    """
    figure.clear()
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 1))
    loss, dice = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    rate = figure.add_subplot(grid[1, :])
    length = _steps_per_epoch(course, steps_per_epoch)
    steps = sorted(course.steps.values(), key=lambda step: step.number)
    epochs = sorted(course.epochs.values(), key=lambda epoch: epoch.number)
    _draw_losses(loss, steps, epochs, course.best, length)
    _draw_dice(dice, epochs, course.best, names)
    _draw_rate(rate, steps, length)
    last = max([1.0, len(epochs), (steps[-1].number if steps else 0) / length])
    for axes in (loss, dice, rate):
        axes.set_xlim(0, 1.02 * last)
        axes.set_xlabel("epoch", fontsize=9)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _steps_per_epoch(course: Course, known: float) -> float:
    if course.epochs:
        last = max(course.epochs.values(), key=lambda epoch: epoch.number)
        return last.step / last.number
    return known or float(max(course.steps, default=1))


def _draw_losses(
    axes: Any, steps: Sequence[Step], epochs: Sequence[Epoch], best: Epoch | None, length: float
) -> None:
    axes.set_title("Loss (smaller is better)", fontsize=10)
    if steps:
        numbers, losses = _thinned([step.number for step in steps], [step.loss for step in steps])
        axes.plot(numbers / length, losses, color=_FAINT, linewidth=1, label="training, steps")
    trained = [(e.number, e.train_loss) for e in epochs if e.train_loss is not None]
    judged = [(e.number, e.val_loss) for e in epochs if e.val_loss is not None]
    for points, label, colour in (
        (trained, "training, epochs", _TRAINING),
        (judged, "validation", _VALIDATION),
    ):
        if points:
            axes.plot(*zip(*points), color=colour, marker=".", label=label)
    if best is not None:
        axes.plot(
            best.number,
            best.val_loss,
            color=_BEST,
            marker="*",
            markersize=14,
            linestyle="none",
            label=f"best: epoch {best.number}",
        )
    if steps or epochs:
        axes.legend(fontsize=8)


def _draw_dice(
    axes: Any, epochs: Sequence[Epoch], best: Epoch | None, names: Mapping[int, str]
) -> None:
    axes.set_title("Dice of the validation (1 is perfect)", fontsize=10)
    axes.set_ylim(-0.02, 1.02)
    # The background is nearly perfect always, and tells nothing.
    found = sorted({c for epoch in epochs for c in epoch.dice if c > 0})
    for class_id in found:
        points = [(e.number, e.dice[class_id]) for e in epochs if class_id in e.dice]
        name = class_name(class_id, names)
        if best is not None and class_id in best.dice:
            name = f"{name}: {best.dice[class_id]:.2f} when best"
        colour = hexadecimal(PALETTE[(class_id - 1) % len(PALETTE)])
        axes.plot(*zip(*points), color=colour, marker=".", label=name)
    if found:
        axes.legend(fontsize=8)


def _draw_rate(axes: Any, steps: Sequence[Step], length: float) -> None:
    if steps:
        numbers, rates = _thinned([step.number for step in steps], [step.rate for step in steps])
        axes.plot(numbers / length, rates, color="#666666")
    axes.set_ylabel("learning rate", fontsize=8)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))


def _thinned(numbers: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbours, where there are more points than can be seen."""
    group = -(-len(numbers) // _POINTS)
    whole = len(numbers) // group * group
    return tuple(
        np.asarray(points[:whole], dtype=float).reshape(-1, group).mean(axis=1)
        for points in (numbers, values)
    )
