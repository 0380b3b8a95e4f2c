"""The particles: analytic shapes, given by their distance to the surface.

A shape is a function from points ``(..., 3)`` in Å, x y z in the particle's own frame, to the
signed distance in Å to its surface ``(...)``: negative inside. Shapes are joined by the minimum.
Sizes are those of the textbooks, details are only hinted at: at the voxel sizes of tomograms
more would not be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
Shape = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Species:
    """A kind of particle.

    Parameters
    ----------
    name
        As the user asks for it.
    shape
        Signed distance to the surface, in Å.
    radius
        Radius in Å of a sphere about the frame's origin that holds the whole particle.
    density
        Inside, where 0 is vacuum and 1 is RNA; protein is less dense.
    solid
        Whether the centre of mass lies within the particle: not so for tubes.
    """

    name: str
    shape: Shape
    radius: float
    density: float
    solid: bool


def ellipsoid(centre: tuple[float, float, float], semi_axes: tuple[float, float, float]) -> Shape:
    """Make an ellipsoid along the axes; both arguments x, y, z in Å.

    The distance is exact in sign, and to first order near the surface.
    """
    axes = np.asarray(semi_axes)
    # Far below every size here: it only keeps the middle, where both norms vanish, finite.
    tiny = 1e-6

    def distance(points: FloatArray) -> FloatArray:
        scaled = (points - np.asarray(centre)) / axes
        level = np.linalg.norm(scaled, axis=-1)
        slope = np.linalg.norm(scaled / axes, axis=-1)
        return (level - 1) * (level + tiny) / (slope + tiny / axes.min())

    return distance


def ring(height: float, radius: float, tube: float) -> Shape:
    """Make a torus about the z axis at z = `height`; `radius` to the middle of its `tube`, in Å."""

    def distance(points: FloatArray) -> FloatArray:
        outwards = np.hypot(points[..., 0], points[..., 1]) - radius
        return np.hypot(outwards, points[..., 2] - height) - tube

    return distance


def fluted_tube(radius: float, wall: float, length: float, flutes: int) -> Shape:
    """Make a hollow tube along z whose wall is a palisade of `flutes` protofilaments, in Å."""

    def distance(points: FloatArray) -> FloatArray:
        x, y, z = np.moveaxis(points, -1, 0)
        ridge = wall / 8 * np.cos(flutes * np.arctan2(y, x))
        across = np.abs(np.hypot(x, y) - radius) - wall / 2 - ridge
        return np.maximum(across, np.abs(z) - length / 2)

    return distance


def union(*shapes: Shape) -> Shape:
    """Join shapes."""

    def distance(points: FloatArray) -> FloatArray:
        return np.minimum.reduce([shape(points) for shape in shapes])

    return distance


_RIBOSOME = union(
    ellipsoid((0, 0, 35), (115, 105, 88)),  # large subunit
    ellipsoid((0, 78, 78), (28, 38, 40)),  # its central protuberance
    ellipsoid((-105, 30, 30), (34, 22, 24)),  # its two stalks
    ellipsoid((110, 25, 10), (36, 20, 20)),
    ellipsoid((0, -22, -84), (98, 74, 44)),  # small subunit: body,
    ellipsoid((10, 70, -72), (58, 42, 34)),  # head
    ellipsoid((70, 74, -68), (32, 22, 20)),  # and beak
)
_PROTEASOME = union(
    fluted_tube(radius=40, wall=26, length=150, flutes=7),  # the barrel,
    *(ring(height, 40, 18) for height in (-54, -18, 18, 54)),  # made of four rings
    *(ellipsoid((0, 0, side * 98), (60, 52, 28)) for side in (-1, 1)),  # the caps' bases
    *(ellipsoid((side * 28, 0, side * 145), (62, 48, 52)) for side in (-1, 1)),  # and lids
)
_RUBISCO = union(
    ellipsoid((0, 0, 0), (46, 46, 52)),
    *(ellipsoid((x, y, 0), (32, 32, 50)) for x in (-23, 23) for y in (-23, 23)),
)
_MICROTUBULE = fluted_tube(radius=105, wall=40, length=700, flutes=13)

#: Every species by its name.
SPECIES: dict[str, Species] = {
    species.name: species
    for species in (
        Species("ribosome", _RIBOSOME, radius=150, density=1.0, solid=True),
        Species("proteasome", _PROTEASOME, radius=205, density=0.8, solid=False),
        Species("rubisco", _RUBISCO, radius=70, density=0.8, solid=True),
        Species("microtubule", _MICROTUBULE, radius=375, density=0.8, solid=False),
    )
}


@cache
def mass_centre(name: str) -> tuple[float, float, float]:
    """Centre of mass of a species in its own frame, x y z in Å.

    Particles are drawn about it, so that the coordinates in the truth are what a perfect
    segmentation would measure.
    """
    species = SPECIES[name]
    axis = np.linspace(-species.radius, species.radius, 61)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    x, y, z = points[species.shape(points) <= 0].mean(axis=0)
    return float(x), float(y), float(z)
