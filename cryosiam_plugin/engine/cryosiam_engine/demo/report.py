"""The scores as people read them: one table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from cryosiam_engine.demo.scoring import MATCH_DISTANCE, Scores
from cryosiam_engine.files import write_text

Row = tuple[str, str, str]


def write_scores(scores: Scores, folder: Path) -> list[Row]:
    """Write ``scores.json`` and ``scores.md``.

    Parameters
    ----------
    scores
        Of :func:`~cryosiam_engine.demo.scoring.score_run`.
    folder
        Where to.

    Returns
    -------
    list of tuple
        The table's rows: step, score, value.
    """
    rows = score_rows(scores)
    write_text(folder / "scores.json", json.dumps(scores, indent=2) + "\n")
    write_text(folder / "scores.md", markdown(("step", "score", "value"), rows))
    return rows


def score_rows(scores: Scores) -> list[Row]:
    """What was scored, in words, and each value."""
    denoising, instances, clusters = (
        scores[name] for name in ("denoising", "instances", "clusters")
    )
    within = "correlation with the noise-free volume"
    rows = [
        ("tomogram as it is", within, _value(denoising["tomogram"])),
        (
            f"Gaussian, best sigma ({denoising['gaussian_sigma']:g} voxels)",
            within,
            _value(denoising["gaussian"]),
        ),
        ("denoised", within, _value(denoising["denoised"])),
        ("lamella", "Dice", _value(scores["lamella"])),
    ]
    rows += [(f"class {name}", "Dice", _value(value)) for name, value in scores["classes"].items()]
    for name, score in scores["particles"].items():
        picked = f"{score['found']} found of {score['true']}, within {MATCH_DISTANCE:g} voxels"
        rows.append(
            (
                f"centres of {name}s" if name != "rubisco" else f"centres of {name}",
                f"precision, recall, F1 ({picked})",
                ", ".join(_value(score[key]) for key in ("precision", "recall", "f1")),
            )
        )
    counted = f"{instances['found']} found of {instances['true']}"
    rows += [
        (
            "instances",
            f"average precision at IoU 0.5 ({counted})",
            _value(instances["average_precision"]),
        ),
        (
            "clusters of embeddings",
            f"adjusted Rand index with the species ({clusters['particles']} particles)",
            _value(clusters["adjusted_rand_index"]),
        ),
    ]
    return rows


def markdown(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heading = list(heading)
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def aligned(rows: Iterable[Row]) -> list[str]:
    """The rows for a terminal, column under column."""
    rows = list(rows)
    first, second = (max(len(row[index]) for row in rows) for index in (0, 1))
    return [f"{step:<{first}}  {score:<{second}}  {value}" for step, score, value in rows]


def _value(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
