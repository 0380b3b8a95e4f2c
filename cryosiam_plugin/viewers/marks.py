"""Particles as circles: where a plane cuts the sphere around each."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np

from cryosiam_plugin.viewers.planes import Plane, Position
from cryosiam_plugin.viewers.volumes import ViewerError


@dataclass(frozen=True)
class Particle:
    """One particle.

    Attributes
    ----------
    position
        Its centre `(z, y, x)` in voxels.
    class_name
        What it is.
    score, size
        Confidence, and size in voxels, where known.
    number
        Its own, where it is one of the objects of a mask.
    """

    position: Position
    class_name: str = "particle"
    score: float | None = None
    size: int | None = None
    number: int | None = None

    @property
    def name(self) -> str:
        """What it is, with its number if it has one."""
        return self.class_name if self.number is None else f"{self.class_name} {self.number}"


@dataclass(frozen=True)
class Circle:
    """The cut of a plane through the sphere around a particle; all in voxels of the slice."""

    particle: int
    row: float
    column: float
    radius: float
    #: Whether the slice passes through the voxel at the particle's centre.
    central: bool


class ParticleMarks:
    """The particles of a tomogram, ready to be cut by planes.

    Parameters
    ----------
    particles
        In the order of the list that the user sees.
    box_size
        Diameter of the spheres in voxels.
    """

    def __init__(self, particles: Sequence[Particle], box_size: float) -> None:
        self.particles = list(particles)
        self.radius = max(box_size, 2.0) / 2
        self._numbered = {p.number: p for p in self.particles if p.number is not None}
        self._positions = np.array([p.position for p in self.particles], float).reshape(-1, 3)

    def numbered(self, number: int) -> Particle | None:
        """The particle with a number of its own."""
        return self._numbered.get(number)

    def circles(self, plane: Plane, index: int) -> Iterator[Circle]:
        """The circles in a slice: a box's radius wide in the centre, shrinking away from it."""
        distances = np.abs(self._positions[:, plane.axis] - index)
        for number in np.flatnonzero(distances < self.radius):
            row, column = plane.row_column(self.particles[number].position)
            radius = float(np.sqrt(self.radius**2 - distances[number] ** 2))
            yield Circle(int(number), row, column, radius, bool(distances[number] <= 0.5))


def read_particles_csv(path: str | Path, tomogram: str = "") -> list[Particle]:
    """Read particles from a table of centres (CSV).

    Parameters
    ----------
    path
        Columns ``centroid-0``, ``centroid-1``, ``centroid-2`` (voxels z, y, x); ``class_name`` or
        ``semantic_class``, ``area`` and ``tomo`` count where present.
    tomogram
        Its name: rows of other tomograms are left out if any row bears this one.

    Raises
    ------
    ViewerError
        When the file is absent or no such table.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ViewerError(f"{path} cannot be read: {error}") from error
    own = [row for row in rows if tomogram and Path(row.get("tomo") or "").stem == tomogram]
    try:
        return [_particle(row) for row in own or rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ViewerError(
            f"{path} is not a table of particle centres: it needs the columns centroid-0, "
            f"centroid-1 and centroid-2 with numbers ({error})."
        ) from error


def _particle(row: dict) -> Particle:
    z, y, x = (float(row[f"centroid-{axis}"]) for axis in range(3))
    name = row.get("class_name") or ""
    if not name:
        label = row.get("semantic_class")
        name = f"label {int(float(label))}" if label else "particle"
    area = row.get("area")
    return Particle((z, y, x), name, size=int(float(area)) if area else None)


def by_class(particles: Sequence[Particle]) -> list[tuple[str, int]]:
    """Class names, in order of first appearance, and how many particles each has."""
    counts: dict = {}
    for particle in particles:
        counts[particle.class_name] = counts.get(particle.class_name, 0) + 1
    return list(counts.items())
