"""One particle or one vesicle, drawn in a small box of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects
from scipy.spatial.transform import Rotation
from scipy.special import ndtr

from cryosiam_engine.simulation.species import SPECIES, FloatArray, mass_centre

#: Blur of a molecule's surface in Å: solvent, flexibility, dose.
EDGE = 4.0
#: From the middle of a bilayer to its head groups, and their spread, in Å.
HEAD_GROUPS, HEAD_SPREAD = 18.0, 7.0
#: Half of a membrane's thickness in the labels, in Å.
HALF_MEMBRANE = 27.0
#: Head groups hold phosphorus: denser than protein.
MEMBRANE_DENSITY = 1.1
#: Voxels around the labelled ones that are kept for the soft edge.
MARGIN = 3
#: How far a vesicle may deviate from a ball: its axes, and a pear-like third harmonic.
ELONGATION, PEAR = 0.15, 0.08


@dataclass(frozen=True)
class Drawing:
    """What is stamped into the tomogram.

    Parameters
    ----------
    cover
        How much of each voxel the object fills, 0 to 1, float32 ``(z, y, x)``.
    mask
        The voxels that are the object's in the labels, bool ``(z, y, x)``.
    centre
        The object's centre in the box, ``(z, y, x)`` in voxels, not rounded.
    angles
        RELION's rot, tilt and psi in degrees; zeros for vesicles, which have no orientation.
    density
        Of the object, where 1 is RNA.
    """

    cover: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    centre: tuple[float, float, float]
    angles: tuple[float, float, float]
    density: float


def relion_angles(rotation: Rotation) -> tuple[float, float, float]:
    """Give rot, tilt and psi in degrees of the rotation that turns the particle's own frame.

    RELION's angles (ZYZ, intrinsic) describe the opposite turn: from the tomogram to the frame.
    """
    rot, tilt, psi = rotation.inv().as_euler("ZYZ", degrees=True)
    return float(rot), float(tilt), float(psi)


def random_rotation(rng: np.random.Generator) -> Rotation:
    """Draw an orientation, all being equally likely."""
    return Rotation.from_quat(rng.normal(size=4))


def draw_particle(name: str, voxel_size: float, rng: np.random.Generator) -> Drawing:
    """Draw a particle in a random orientation, its centre anywhere within a voxel.

    Parameters
    ----------
    name
        The species.
    voxel_size
        In Å.
    rng
        Gives the orientation and the centre.
    """
    species = SPECIES[name]
    rotation = random_rotation(rng)
    offset = np.asarray(mass_centre(name))
    half = math.ceil((species.radius + float(np.linalg.norm(offset))) / voxel_size) + MARGIN
    points, centre = _box(half, voxel_size, rng)
    # Row vectors: p @ R is the inverse rotation, from the tomogram to the particle's frame.
    distance = species.shape(points @ rotation.as_matrix() + offset)
    cover = ndtr(-distance / math.hypot(EDGE, 0.4 * voxel_size))
    return _cropped(cover, distance <= 0, centre, relion_angles(rotation), species.density)


def draw_vesicle(
    radius: tuple[float, float], voxel_size: float, rng: np.random.Generator
) -> Drawing:
    """Draw the bilayer of a closed vesicle: two leaflets with a gap.

    Parameters
    ----------
    radius
        Smallest and largest radius in Å.
    voxel_size
        In Å.
    rng
        Gives the radius, the shape and the centre.
    """
    axes = rng.uniform(*radius) * rng.uniform(1 - ELONGATION, 1 + ELONGATION, size=3)
    reach = axes.max() * (1 + 2 * PEAR) + HALF_MEMBRANE
    points, centre = _box(math.ceil(reach / voxel_size) + MARGIN, voxel_size, rng)
    pole = random_rotation(rng).as_matrix()[0]
    distance = np.abs(_pear(points @ random_rotation(rng).as_matrix(), axes, pole, voxel_size))
    # A pixel averages over its width: the leaflets get broader and, keeping their mass, fainter.
    spread = math.hypot(HEAD_SPREAD, 0.4 * voxel_size)
    leaflets = np.exp(-0.5 * ((distance - HEAD_GROUPS) / spread) ** 2)
    leaflets += np.exp(-0.5 * ((distance + HEAD_GROUPS) / spread) ** 2)
    cover = np.minimum(leaflets * HEAD_SPREAD / spread, 1)
    # Thinner than a voxel's diagonal, a membrane would have holes in the labels.
    mask = distance <= max(HALF_MEMBRANE, 0.9 * voxel_size)
    return _cropped(cover, mask, centre, (0.0, 0.0, 0.0), MEMBRANE_DENSITY)


def _box(
    half: int, voxel_size: float, rng: np.random.Generator
) -> tuple[FloatArray, tuple[float, float, float]]:
    """Points ``(z, y, x, 3)`` as x y z in Å from a centre near the middle; the centre in voxels."""
    centre = half + rng.uniform(-0.5, 0.5, size=3)
    axes = [(np.arange(2 * half + 1) - middle) * voxel_size for middle in centre]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack((x, y, z), axis=-1), (float(centre[0]), float(centre[1]), float(centre[2]))


def _pear(points: FloatArray, axes: FloatArray, pole: FloatArray, voxel_size: float) -> FloatArray:
    """Distance in Å to an ellipsoid with a third harmonic about `pole`, to first order."""
    scaled = points / axes
    length = np.maximum(np.linalg.norm(scaled, axis=-1), 1e-6)
    cosine = scaled @ pole / length
    level = length - 1 - PEAR * (2.5 * cosine**3 - 1.5 * cosine)
    slope = np.sqrt(sum(part**2 for part in np.gradient(level, voxel_size)))
    return level / np.maximum(slope, 1e-6)


def _cropped(
    cover: FloatArray,
    mask: npt.NDArray[np.bool_],
    centre: tuple[float, float, float],
    angles: tuple[float, float, float],
    density: float,
) -> Drawing:
    """Cut away the empty part of the box, so that elongated particles can come near the border."""
    box = tuple(
        slice(max(side.start - MARGIN, 0), side.stop + MARGIN)
        for side in find_objects(mask.astype(np.int8))[0]
    )
    z, y, x = (middle - side.start for middle, side in zip(centre, box, strict=True))
    return Drawing(cover[box].astype(np.float32), mask[box].copy(), (z, y, x), angles, density)
