"""Running a processing command as the command line does, without the other commands."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import starfile
from cryosiam_engine.processing.command import COMMANDS, run
from cryosiam_engine.simulation import SimulationSettings
from cryosiam_engine.simulation.simulator import SimulatedTomogram, simulate


def run_processing(name: str, **options: object) -> int:
    """Give the options by their names; True is a flag."""
    parser = argparse.ArgumentParser()
    parser.set_defaults(command=name)
    COMMANDS[name].add_arguments(parser)
    words = []
    for option, value in options.items():
        words += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    args = parser.parse_args(words)
    assert args.run is not None
    return run(args)


def status_of(folder: Path, command: str, stem: str) -> dict:
    return json.loads((folder / "status" / command / f"{stem}.json").read_text())


def small_simulation(seed: int = 3, **changes: object) -> SimulatedTomogram:
    settings = {
        "shape": (48, 64, 72),
        "voxel_size": 13.48,
        "particles_per_species": {"ribosome": 4},
        "membranes": 0,
        "seed": seed,
    }
    return simulate(SimulationSettings(**{**settings, **changes}), "TS_01")


def write_star(path: Path, table: object) -> Path:
    starfile.write({"particles": table}, path)
    return path
