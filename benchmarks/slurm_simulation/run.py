"""How long a set of tomograms takes on a cluster with Slurm, simulated.

``python benchmarks/slurm_simulation/run.py --tomograms 100000 --gpus 16 --seconds 75`` prints what
one run would take; ``--report`` (needs matplotlib) makes README.md, results.json and the figure
beside this file, from what measure.py, flops.py and validate.py have written there.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import MISSING, fields
from pathlib import Path
from string import Template
from typing import Any

from planning_tables import (
    duration,
    number,
    row_of,
    simulate_changes,
    simulate_sizes,
    table_of_changes,
    table_of_operations,
    table_of_sizes,
    table_of_steps,
    table_of_validation,
)
from scenario import Scenario
from simulation import simulate_run

HERE = Path(__file__).parent


def main() -> None:
    """Print one run, or make the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--report", action="store_true", help="make README.md instead")
    for field in fields(Scenario):
        if field.default is not MISSING:
            option = f"--{field.name.replace('_', '-')}"
            kind: Any = type(field.default)
            parser.add_argument(option, type=kind, default=field.default, help=f"{field.default}")
    values = vars(parser.parse_args())
    if values.pop("report"):
        report()
    else:
        show(Scenario(**values))


def show(scenario: Scenario) -> None:
    """Print what a run would take."""
    outcome = simulate_run(scenario)
    row = row_of(scenario, outcome)
    for name, value in (
        ("takes", duration(row["hours"])),
        ("GPU-hours", number(row["gpu_hours"])),
        ("GPUs' time in results", f"{100 * row['efficiency']:.0f} %"),
        ("tomograms done, given up", f"{row['done']:,}, {row['failed']:,}"),
        ("tasks, their starts", f"{row['tasks']:,}, {row['starts']:,}"),
        ("arrays, calls of sbatch", f"{row['arrays']:,}, {row['submissions']:,}"),
        ("calls of squeue", f"{row['looks']:,}"),
        ("files of the run", f"{row['run_files']:,} ({row['run_megabytes']:.1f} MB and logs)"),
    ):
        print(f"{name:26} {value}")


def report() -> None:
    """Simulate everything and write the report."""
    from planning_figure import draw

    measured, counted, validation = (
        json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("measured", "operations", "validation")
    )
    sizes, changes = simulate_sizes(), simulate_changes()
    results = json.dumps({"sizes": sizes, "changes": changes}, indent=1)
    (HERE / "results.json").write_text(results + "\n", encoding="utf-8")
    draw(HERE / "planning.png")
    text = Template((HERE / "template.md").read_text(encoding="utf-8")).substitute(
        sizes=table_of_sizes(sizes),
        changes=table_of_changes(changes),
        steps=table_of_steps(measured, counted["shape"]),
        operations=table_of_operations(counted),
        validation=table_of_validation(validation),
        between=f"{validation['calibrated_between']:.1f}",
        tomograms=measured["tomograms"],
        small=" × ".join(map(str, measured["shape"])),
        machine=measured["machine"],
        for_programs=f"{measured['calls_for_programs']:,}",
        per_process=measured["calls_per_process"],
        per_tomogram=measured["calls_per_tomogram"],
        per_particle=f"{counted['teraflop_per_particle']:.2f}",
    )
    (HERE / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
