"""The command ``cryosiam-engine simulate``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.simulation.settings import DTYPES, SPECIES_NAMES, SimulationSettings

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Parameters
    ----------
    parser
        Of the command.
    """
    add = parser.add_argument
    add("--output", required=True, metavar="FOLDER", help="where to write; made if absent")
    add("--number", type=int, default=1, help="how many tomograms (default: %(default)s)")
    defaults = SimulationSettings()
    _add_sample(parser, defaults)
    _add_imaging(parser, defaults)


def _add_sample(parser: argparse.ArgumentParser, defaults: SimulationSettings) -> None:
    add = parser.add_argument_group("sample").add_argument
    shape = " ".join(map(str, defaults.shape))
    add(
        "--shape",
        type=int,
        nargs=3,
        default=defaults.shape,
        metavar=("Z", "Y", "X"),
        help=f"size in voxels (default: {shape})",
    )
    add("--voxel-size", type=float, default=defaults.voxel_size, help="in Å (default: %(default)s)")
    species = [f"{name}={count}" for name, count in defaults.particles_per_species.items()]
    add(
        "--species",
        nargs="*",
        default=species,
        metavar="NAME=COUNT",
        help=f"particles, among {', '.join(SPECIES_NAMES)}; the order gives the semantic classes "
        f"2, 3, ... (default: {' '.join(species)})",
    )
    add("--membranes", type=int, default=defaults.membranes, help="vesicles (default: %(default)s)")
    add("--lamella-thickness", type=float, help="in Å (default: two thirds of the volume's depth)")
    add(
        "--seed",
        type=int,
        default=defaults.seed,
        help="of the first tomogram; the next ones count on (default: %(default)s)",
    )


def _add_imaging(parser: argparse.ArgumentParser, defaults: SimulationSettings) -> None:
    add = parser.add_argument_group("imaging").add_argument
    add(
        "--snr",
        type=float,
        default=defaults.snr,
        help="variance of signal over variance of noise (default: %(default)s; inf: no noise)",
    )
    add(
        "--tilt-range",
        type=float,
        default=defaults.tilt_range,
        help="largest tilt in degrees; 90: no missing wedge (default: %(default)s)",
    )
    add(
        "--dtype",
        choices=DTYPES,
        default=defaults.dtype,
        help="voxels of the tomogram (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Simulate and write the tomograms TS_01, TS_02, ...

    Parameters
    ----------
    args
        As :func:`add_arguments` declares them.

    Returns
    -------
    int
        The exit status, 0.

    Raises
    ------
    ConfigurationError
        When an option is impossible.
    OutputError
        When the system refuses to write.
    """
    if args.number < 1:
        raise ConfigurationError(f"--number is {args.number}.", remedy="Give 1 or more.")
    settings = _settings(args)
    # Only now: numpy and pandas would slow down the help of every command.
    from cryosiam_engine.simulation.output import write_simulation
    from cryosiam_engine.simulation.simulator import simulate

    for index in range(args.number):
        logger.info("Simulating tomogram %d of %d.", index + 1, args.number)
        numbered = dataclasses.replace(settings, seed=settings.seed + index)
        name = f"TS_{index + 1:02d}"
        _note(name, numbered, write_simulation(simulate(numbered, name), args.output), args.output)
    return 0


def _note(name: str, settings: SimulationSettings, files: list[Path], folder: str) -> None:
    """Write a status of a simulated tomogram: what it is and that it is not from a microscope."""
    from cryosiam_engine.status import FileIdentity, Output, Status, status_folder, write_status

    status = Status("simulate", name, "done", {"settings": dataclasses.asdict(settings)})
    kinds = {".mrc": "tomogram", ".json": "classes"}
    status.outputs = [
        Output(FileIdentity.of(file), kinds.get(file.suffix, "particles"), ()) for file in files
    ]
    write_status(status_folder(Path(folder), "simulate"), status)


def _settings(args: argparse.Namespace) -> SimulationSettings:
    return SimulationSettings(
        shape=tuple(args.shape),
        voxel_size=args.voxel_size,
        lamella_thickness=args.lamella_thickness,
        particles_per_species=_counts(args.species),
        membranes=args.membranes,
        snr=args.snr,
        tilt_range=args.tilt_range,
        seed=args.seed,
        dtype=args.dtype,
    )


def _counts(words: list[str]) -> dict[str, int]:
    """Read ``ribosome=20 proteasome=10``."""
    counts: dict[str, int] = {}
    for word in words:
        name, _, number = word.partition("=")
        if not number.isdecimal() or name in counts:
            raise ConfigurationError(
                f"--species has {word!r}.",
                remedy="Name every species once, with its count: --species ribosome=20 rubisco=40.",
            )
        counts[name] = int(number)
    return counts
