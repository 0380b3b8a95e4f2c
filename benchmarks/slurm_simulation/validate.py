"""Does the simulation foresee a real run? Sleeping tasks on the Slurm of scripts/start_slurm.sh.

``sudo python benchmarks/slurm_simulation/validate.py`` measures, with a first small array, how long
this Slurm needs between two tasks on the same pretended GPU, then runs other arrays through the
code that tomograms go through, and simulates them with the same times. Writes validation.json
beside this file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "slurm"))

from cluster_runs import Cluster  # noqa: E402
from cryosiam_engine.slurm.settings import JobSettings  # noqa: E402
from scenario import Scenario  # noqa: E402
from shared_cluster import locked, running_cluster  # noqa: E402
from simulation import simulate_run  # noqa: E402

#: Three nodes with two GPUs each.
TEST_CLUSTER = Scenario(gpus=6, gpus_per_node=2, seconds=6.0, spread=0.3, cycle=0.1, time="")
CALIBRATION = replace(TEST_CLUSTER, tomograms=18, seed=100)
CASES = {
    "48 tasks": replace(TEST_CLUSTER, tomograms=48, seed=1),
    "16 tasks of 3 tomograms": replace(TEST_CLUSTER, tomograms=48, per_task=3, seed=2),
    "24 tasks, 3 at once": replace(TEST_CLUSTER, tomograms=24, cap=3, seed=3),
}


def main() -> None:
    """Calibrate, run, simulate, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=HERE / "validation.json")
    args = parser.parse_args()
    with running_cluster(), locked("turn"):
        between = run_really(CALIBRATION).gaps
        measured = {name: run_really(scenario) for name, scenario in CASES.items()}
    start = statistics.median(between)
    cases = []
    for name, scenario in CASES.items():
        outcome = simulate_run(replace(scenario, start_seconds=start))
        cases.append(
            {
                "case": name,
                "measured": round(measured[name].registered, 1),
                "predicted": round(outcome.makespan, 1),
                "measured_last_end": round(measured[name].last_end, 1),
                "predicted_last_end": round(outcome.last_end, 1),
                "between": round(statistics.median(measured[name].gaps), 2),
            }
        )
        print(cases[-1])
    values = {"calibrated_between": round(start, 2), "n_between": len(between), "cases": cases}
    args.output.write_text(json.dumps(values, indent=1) + "\n")


class Measured(NamedTuple):
    """Seconds: from submission until all was registered, to the last end, between two tasks."""

    registered: float
    last_end: float
    gaps: list[float]


def run_really(scenario: Scenario) -> Measured:
    """Run sleeping tomograms on Slurm, followed as a user would."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        deeds = {
            f"TS_{number:06d}": f"sleep {seconds:.3f}"
            for number, seconds in enumerate(scenario.draw_seconds())
        }
        settings = JobSettings(gres="gpu:1", cpus=1, memory="100M", cap=scenario.cap)
        cluster = Cluster(Path(folder), deeds, settings=settings, per_task=scenario.per_task)
        began, clock = time.monotonic(), time.time()
        try:
            while not cluster.poll().is_over:
                time.sleep(cluster.follower.interval)
        finally:
            took = time.monotonic() - began
            cluster.run.cancel()
        if len(cluster.done) != scenario.tomograms:
            raise SystemExit(f"{cluster.run.journal.failures}")
        ends = [float(cluster.started(stem)[-1].split()[1]) for stem in deeds]
        return Measured(took, max(ends) - clock, _gaps(cluster, list(deeds)))


def _gaps(cluster: Cluster, stems: list[str]) -> list[float]:
    """On each GPU between the end of a task and the beginning of the next one."""
    busy: dict[tuple[str, str], list[tuple[float, float, str]]] = defaultdict(list)
    for stem in stems:
        first, last = cluster.started(stem)
        node, gpu, process, began, *_ = first.split()
        busy[node, gpu].append((float(began), float(last.split()[1]), process))
    gaps: list[float] = []
    for spans in busy.values():
        spans.sort()
        gaps += [b[0] - a[1] for a, b in itertools.pairwise(spans) if a[2] != b[2]]
    return gaps


if __name__ == "__main__":
    main()
