"""Pairs of touching particles and the maps a perfect network would predict: to test separation."""

from __future__ import annotations

from dataclasses import dataclass

import edt
import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage.segmentation import find_boundaries

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.simulation.drawing import draw_particle

#: Particles are taken from so many drawings: random orientations, each drawn once.
DRAWINGS = 48
#: Places tried for a pair, and directions tried to bring two particles together.
PLACES, DIRECTIONS = 400, 20
#: Errors of the distances are this many voxels where those of the probabilities are 1.
DISTANCE_ERRORS = 5.0
#: A network's maps are soft at edges; their blur in voxels.
SOFTNESS = 0.7

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class InstanceMaps:
    """What an instance network predicts, all float32 ``(z, y, x)``.

    Parameters
    ----------
    foreground
        Probability that a voxel is a particle's.
    distances
        To the particle's surface in voxels; negative outside.
    boundaries
        Probability that a voxel is at a surface, also at one between two particles.
    """

    foreground: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]
    boundaries: npt.NDArray[np.float32]


def touching_pairs(
    shape: tuple[int, int, int],
    n_pairs: int,
    *,
    species: str = "ribosome",
    voxel_size: float = 13.48,
    seed: int = 0,
) -> npt.NDArray[np.uint32]:
    """Fill a volume with pairs of particles that touch each other and nothing else.

    Parameters
    ----------
    shape
        Of the volume, ``(z, y, x)``.
    n_pairs
        How many pairs. Their labels are 1 and 2, 3 and 4, ...
    species
        A name of the simulator's species.
    voxel_size
        In Å.
    seed
        The same seed gives the same voxels.

    Returns
    -------
    numpy.ndarray
        Instance labels ``(z, y, x)``, 0 = background.

    Raises
    ------
    ConfigurationError
        When they do not fit.
    """
    rng = np.random.default_rng(seed)
    drawings = [draw_particle(species, voxel_size, rng).mask for _ in range(DRAWINGS)]
    labels = np.zeros(shape, np.uint32)
    taken = np.zeros(shape, bool)
    for pair in range(n_pairs):
        first, second = rng.integers(0, DRAWINGS, 2)
        box_labels = _joined(drawings[first], drawings[second], rng)
        # Two voxels of background between pairs: soft foreground maps must not join them.
        padded = np.pad(box_labels, 2)
        footprint = binary_dilation(padded > 0, iterations=2)
        box = _free_place(taken, footprint, rng)
        if box is None:
            raise ConfigurationError(
                f"Only {pair} of {n_pairs} pairs of {species} found a place in {shape} voxels.",
                remedy="Make the volume larger or ask for fewer pairs.",
            )
        taken[box] |= padded > 0
        labels[box] += np.where(padded > 0, padded + np.uint32(2 * pair), np.uint32(0))
    return labels


def _joined(first: Mask, second: Mask, rng: np.random.Generator) -> npt.NDArray[np.uint32]:
    """Labels 1 and 2 in a common box: the second pushed against the first until they touch."""
    apart = max(first.shape) // 2 + max(second.shape) // 2 + 2  # along any direction
    centre = np.full(3, apart + max(second.shape) // 2)
    size = 2 * centre + 1
    fixed = _placed(first, centre, size)
    for _ in range(DIRECTIONS):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        moved = _touching(fixed, second, centre, apart * direction, size)
        if moved is not None:
            labels = fixed.astype(np.uint32) + 2 * moved.astype(np.uint32)
            filled = np.argwhere(labels)
            box = tuple(slice(a, b + 1) for a, b in zip(filled.min(0), filled.max(0), strict=True))
            return labels[box]
    raise ConfigurationError(
        "Two particles could not be brought to touch.", remedy="Try another seed."
    )


def _touching(
    fixed: Mask,
    second: Mask,
    centre: npt.NDArray[np.integer],
    outwards: npt.NDArray[np.floating],
    size: npt.NDArray[np.integer],
) -> Mask | None:
    """The second particle at the last place before it overlaps; None where that is not adjacent."""
    moved = None
    for part in np.linspace(1, 0, 2 * round(float(np.linalg.norm(outwards)))):
        trial = _placed(second, centre + np.rint(outwards * part).astype(int), size)
        if (trial & fixed).any():
            break
        moved = trial
    if moved is None or not (binary_dilation(fixed) & moved).any():
        return None
    return moved


def _placed(mask: Mask, centre: npt.NDArray[np.integer], size: npt.NDArray[np.integer]) -> Mask:
    box = np.zeros(size, bool)
    start = centre - np.array(mask.shape) // 2
    box[tuple(slice(a, a + n) for a, n in zip(start, mask.shape, strict=True))] = mask
    return box


def _free_place(taken: Mask, footprint: Mask, rng: np.random.Generator) -> tuple[slice, ...] | None:
    room = np.array(taken.shape) - np.array(footprint.shape) + 1
    if (room <= 0).any():
        return None
    for _ in range(PLACES):
        corner = rng.integers(0, room)
        box = tuple(slice(int(a), int(a + n)) for a, n in zip(corner, footprint.shape, strict=True))
        if not taken[box][footprint].any():
            return box
    return None


def ideal_maps(
    labels: npt.NDArray[np.integer], *, noise: float = 0.0, seed: int = 0
) -> InstanceMaps:
    """Make the maps that a perfect instance network would predict.

    Parameters
    ----------
    labels
        Instances ``(z, y, x)``, 0 = background.
    noise
        Standard deviation of errors added to the probabilities, 1 voxel in size; distances get
        errors five times as large, in voxels. 0 for none.
    seed
        Of the errors.

    Returns
    -------
    InstanceMaps
        Soft foreground, signed distance to the nearest surface and soft boundaries.
    """
    rng = np.random.default_rng(seed)
    inside = edt.edt(labels.astype(np.uint32, copy=False), black_border=False, parallel=2)
    outside = edt.edt(labels == 0, black_border=False, parallel=2)
    distances = inside - outside
    del inside, outside
    surfaces = find_boundaries(labels, connectivity=1, mode="thick")
    foreground = _soft(labels > 0)
    boundaries = _soft(surfaces)
    if noise:
        foreground += _errors(labels.shape, noise, rng)
        boundaries += _errors(labels.shape, noise, rng)
        distances += _errors(labels.shape, noise * DISTANCE_ERRORS, rng)
        np.clip(foreground, 0, 1, out=foreground)
        np.clip(boundaries, 0, 1, out=boundaries)
    return InstanceMaps(foreground, distances.astype(np.float32), boundaries)


def _soft(mask: Mask) -> npt.NDArray[np.float32]:
    return gaussian_filter(mask.astype(np.float32), SOFTNESS)


def _errors(
    shape: tuple[int, ...], size: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.0)
    field *= np.float32(size / field.std())
    return field
