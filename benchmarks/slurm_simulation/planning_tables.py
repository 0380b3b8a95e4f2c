"""The tables of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from cryosiam_engine.demo.report import markdown
from outcome import Outcome
from scenario import Scenario
from simulation import simulate_run

Row = dict[str, Any]

#: What the report assumes where it says nothing else.
USUAL = Scenario(failure_rate=0.01)
#: Tomograms, GPUs, tomograms per task.
SIZES = (
    (10, (1, 4), (1, 5)),
    (1_000, (4, 16, 64), (1, 10, 50)),
    (100_000, (16, 64), (10, 50)),
)
#: A change to what is usual, one at a time, and what to call it.
CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("nothing", {}),
    ("10 tomograms per task", {"per_task": 10}),
    ("20 s per tomogram", {"seconds": 20.0}),
    ("20 s per tomogram, 10 per task", {"seconds": 20.0, "per_task": 10}),
    ("600 s per tomogram", {"seconds": 600.0}),
    ("times that differ by half of their mean", {"spread": 0.5}),
    ("at most 8 tasks at once", {"cap": 8}),
    ("5 % of the attempts killed", {"failure_rate": 0.05}),
    ("5 % killed, 10 per task", {"failure_rate": 0.05, "per_task": 10}),
    ("4 preemptions per day and GPU", {"preemptions_per_day": 4.0}),
    ("4 preemptions, 50 per task", {"preemptions_per_day": 4.0, "per_task": 50}),
    ("4 preemptions, 600 s per tomogram", {"preemptions_per_day": 4.0, "seconds": 600.0}),
    ("every node crashes 4 times per day", {"crashes_per_day": 4.0}),
    ("time limit 0:20:00, 50 per task", {"time": "0:20:00", "per_task": 50}),
    ("room for 500 jobs of a user", {"max_jobs": 500, "max_array_size": 251}),
    ("the scheduler starts 1 task every 30 s", {"cycle": 30.0, "starts_per_cycle": 1}),
)


def row_of(scenario: Scenario, outcome: Outcome) -> Row:
    """What of a run goes into results.json."""
    return {
        **asdict(scenario),
        "hours": outcome.makespan / 3600,
        "gpu_hours": outcome.gpu_seconds / 3600,
        "efficiency": outcome.efficiency(scenario.gpus),
        "done": len(outcome.done),
        "failed": len(outcome.failed),
        "tasks": outcome.n_tasks,
        "starts": outcome.n_starts,
        "arrays": outcome.n_arrays,
        "submissions": outcome.n_submissions,
        "looks": outcome.n_looks,
        "run_files": outcome.run_files,
        "run_megabytes": outcome.run_bytes / 1e6,
    }


def simulate_sizes() -> list[Row]:
    """All sizes, with what is usual."""
    scenarios = (
        replace(USUAL, tomograms=tomograms, gpus=gpus, per_task=per_task)
        for tomograms, all_gpus, all_per_task in SIZES
        for gpus in all_gpus
        for per_task in all_per_task
    )
    return [row_of(scenario, simulate_run(scenario)) for scenario in scenarios]


def simulate_changes() -> list[Row]:
    """A thousand tomograms on 16 GPUs, one thing changed at a time."""
    rows = []
    for name, change in CHANGES:
        scenario = replace(USUAL, **change)
        rows.append({"change": name, **row_of(scenario, simulate_run(scenario))})
    return rows


def table_of_sizes(rows: Iterable[Row]) -> str:
    """A row for each size."""
    heading = ("tomograms", "GPUs", "per task", "takes", "GPU-hours", "of them in results")
    heading += ("tasks", "arrays", "calls of squeue", "files of the run")
    return markdown(
        heading,
        (
            [
                *(f"{row[name]:,}" for name in ("tomograms", "gpus", "per_task")),
                duration(row["hours"]),
                number(row["gpu_hours"]),
                f"{100 * row['efficiency'] * row['gpus'] * row['hours'] / row['gpu_hours']:.0f} %",
                *(f"{row[name]:,}" for name in ("tasks", "arrays", "looks", "run_files")),
            ]
            for row in rows
        ),
    )


def table_of_changes(rows: Iterable[Row]) -> str:
    """A row for each change."""
    heading = ("what is different", "takes", "GPUs' time in results", "task starts", "arrays")
    heading += ("given up",)
    return markdown(
        heading,
        (
            [
                row["change"],
                duration(row["hours"]),
                f"{100 * row['efficiency']:.0f} %",
                *(f"{row[name]:,}" for name in ("starts", "arrays", "failed")),
            ]
            for row in rows
        ),
    )


def table_of_steps(measured: dict[str, Any], shape: Sequence[int]) -> str:
    """Files and bytes of a tomogram at each step, scaled to `shape` where they are volumes."""
    small, large = math.prod(measured["shape"]), math.prod(shape)
    rows = []
    for step in measured["steps"]:
        files, sizes = step["files"], step["bytes"]
        per_voxel = sizes["volumes"] / small
        rows.append(
            [
                f"`{step['command']}`, {step['step']}",
                *(f"{files[kind]:.0f}" for kind in ("volumes", "tables", "notes")),
                f"{per_voxel:.2f}",
                f"{per_voxel * large / 1e9:.2f}",
            ]
        )
    heading = ("command", "volumes", "tables", "status files and locks", "bytes per voxel")
    return markdown((*heading, f"GB at {' × '.join(map(str, shape))}"), rows)


def table_of_operations(counted: dict[str, Any]) -> str:
    """Operations per tomogram, and the time that they take at a speed that is said."""
    names = [name for name in counted["steps"][0] if name != "step"]
    rows = [
        [step["step"], *(f"{step[name]['petaflop']:.2f}" for name in names)]
        for step in counted["steps"]
    ]
    return markdown(("step", *names), rows)


def table_of_validation(validation: dict[str, Any]) -> str:
    """Measured and predicted seconds."""
    rows = []
    for case in validation["cases"]:
        row = [case["case"]]
        for name in ("last_end", ""):
            measured, predicted = (
                case[f"{word}_{name}".rstrip("_")] for word in ("measured", "predicted")
            )
            difference = 100 * (predicted - measured) / measured
            row += [f"{measured:.0f} s", f"{predicted:.0f} s", f"{difference:+.0f} %"]
        rows.append(row)
    heading = ["array", "last task ended", "predicted", "", "all registered", "predicted", ""]
    return markdown(heading, rows)


def duration(hours: float) -> str:
    """In the unit that suits.

    Examples
    --------
    >>> duration(0.1), duration(20), duration(300)
    ('6 min', '20.0 h', '12.5 days')
    """
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def number(value: float) -> str:
    """With three digits, or all that it has before the point."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
