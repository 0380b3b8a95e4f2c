"""What to simulate. Imports neither numpy nor scipy: the command line reads it for its help."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryosiam_engine.errors import ConfigurationError

#: The particles that can be asked for; :mod:`cryosiam_engine.simulation.species` draws them.
SPECIES_NAMES = ("ribosome", "proteasome", "rubisco", "microtubule")
#: How the voxels of the tomogram can be written.
DTYPES = ("float32", "int16", "int8")
#: Beyond this voxel size (Å) the smallest particles are no more than a few voxels across.
LARGEST_VOXEL_SIZE = 40.0
#: The shortest side (voxels) that still leaves room for a lamella.
SMALLEST_SIDE = 8


@dataclass(frozen=True)
class SimulationSettings:
    """One simulated tomogram, described; the same settings give the same bytes.

    Parameters
    ----------
    shape
        Size of the volume in voxels, ``(z, y, x)``.
    voxel_size
        Edge of a voxel in Å.
    lamella_thickness
        Thickness of the lamella in Å; None for two thirds of the volume's depth.
    lamella_tilt
        Angle in degrees between the lamella and the xy plane; its direction is random.
    particles_per_species
        How many particles of each species; the order gives the semantic classes 2, 3, ...
        Those that find no free place in the lamella are left out with a warning.
    membranes
        How many vesicles.
    membrane_radius
        Smallest and largest radius of a vesicle in Å.
    snr
        Variance of the signal over variance of the noise, both within the lamella and both after
        the missing wedge. ``math.inf`` for no noise at all.
    tilt_range
        The tilt series goes from minus this angle to plus this angle (degrees) about the y axis.
        90 for no missing wedge.
    seed
        Seed of all random numbers.
    dtype
        How the tomogram's voxels are written: float32, int16 or int8.

    Raises
    ------
    ConfigurationError
        When a value is impossible.
    """

    shape: tuple[int, int, int] = (128, 192, 192)
    voxel_size: float = 13.48
    lamella_thickness: float | None = None
    lamella_tilt: float = 5.0
    particles_per_species: Mapping[str, int] = field(
        default_factory=lambda: {"ribosome": 60, "proteasome": 20, "rubisco": 60}
    )
    membranes: int = 4
    membrane_radius: tuple[float, float] = (180.0, 420.0)
    snr: float = 0.5
    tilt_range: float = 60.0
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self._check_geometry()
        self._check_content()
        _require(self.snr > 0, f"snr is {self.snr}", "Give a positive number, such as 0.5.")
        _require(
            0 < self.tilt_range <= 90,
            f"tilt_range is {self.tilt_range}",
            "Give the largest tilt in degrees, such as 60.",
        )
        _require(self.seed >= 0, f"seed is {self.seed}", "Give 0 or a positive whole number.")
        _require(
            self.dtype in DTYPES, f"dtype is {self.dtype!r}", f"Choose one of {', '.join(DTYPES)}."
        )

    @property
    def thickness(self) -> float:
        """Thickness of the lamella in Å, also where none was asked for."""
        if self.lamella_thickness is not None:
            return self.lamella_thickness
        return self.shape[0] * self.voxel_size * 2 / 3

    @property
    def class_names(self) -> dict[int, str]:
        """Name of every semantic class."""
        names = ("background", "membrane", *self.particles_per_species)
        return dict(enumerate(names))

    def _check_geometry(self) -> None:
        _require(
            len(self.shape) == 3 and min(self.shape) >= SMALLEST_SIDE,
            f"shape is {self.shape}",
            f"Give three sizes (z, y, x) of at least {SMALLEST_SIDE} voxels.",
        )
        _require(
            0 < self.voxel_size <= LARGEST_VOXEL_SIZE,
            f"voxel_size is {self.voxel_size} Å",
            f"Give a positive number of at most {LARGEST_VOXEL_SIZE:g} Å.",
        )
        _require(
            math.isfinite(self.thickness) and self.thickness >= 2 * self.voxel_size,
            f"lamella_thickness is {self.thickness:g} Å",
            "Give at least two voxels.",
        )
        _require(
            abs(self.lamella_tilt) <= 45,
            f"lamella_tilt is {self.lamella_tilt}",
            "Give an angle of at most 45 degrees.",
        )

    def _check_content(self) -> None:
        for name, number in self.particles_per_species.items():
            near = difflib.get_close_matches(name, SPECIES_NAMES, 1)
            hint = f"Did you mean {near[0]}? " if near else ""
            _require(
                name in SPECIES_NAMES,
                f"the species {name!r} is not known",
                f"{hint}Choose among {', '.join(SPECIES_NAMES)}.",
            )
            _require(number >= 0, f"{name} is asked for {number} times", "Give 0 or more.")
        _require(self.membranes >= 0, f"membranes is {self.membranes}", "Give 0 or more.")
        low, high = self.membrane_radius
        _require(
            0 < low <= high < math.inf,
            f"membrane_radius is {self.membrane_radius}",
            "Give the smallest and the largest radius in Å.",
        )


def _require(fine: bool, message: str, remedy: str) -> None:
    if not fine:
        raise ConfigurationError(f"Simulation: {message}.", remedy=remedy)
