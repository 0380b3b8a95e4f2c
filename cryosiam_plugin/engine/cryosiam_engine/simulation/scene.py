"""The sample before imaging: a lamella filled with particles and vesicles, and its labels."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.special import ndtr

from cryosiam_engine.simulation.drawing import Drawing, draw_particle, draw_vesicle
from cryosiam_engine.simulation.settings import SimulationSettings
from cryosiam_engine.simulation.species import SPECIES

logger = logging.getLogger(__name__)

#: How often an object is drawn anew, and at how many places each drawing is tried.
DRAWINGS, PLACES = 8, 80
#: Density of cytoplasm (vacuum 0, RNA 1), the strength of its crowding, and that one's size in Å.
CYTOPLASM, CROWDING, CROWDING_SIZE = 0.3, 0.08, 22.0

Draw = Callable[[np.random.Generator], Drawing]

_COLUMNS = ["label", "semantic_class", "class_name", "area"]
_COLUMNS += ["centroid-0", "centroid-1", "centroid-2", "rot", "tilt", "psi"]


@dataclass
class Scene:
    """The sample: densities and truth, all ``(z, y, x)``.

    Parameters
    ----------
    density
        float32; 0 is vacuum, protein is bright.
    lamella
        uint8; 1 inside the lamella.
    semantic
        uint8; 0 background, 1 membrane, 2... the species.
    instances
        uint16 (uint32 beyond 65,535 objects); 0 background.
    particles
        One row per object: label, semantic_class, class_name, area (voxels), centroid-0,
        centroid-1, centroid-2 (z, y, x in voxels: the exact centre), rot, tilt, psi (degrees).
    """

    density: npt.NDArray[np.float32]
    lamella: npt.NDArray[np.uint8]
    semantic: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.unsignedinteger]
    particles: pd.DataFrame


def build_scene(settings: SimulationSettings, rng: np.random.Generator) -> Scene:
    """Fill a lamella.

    Parameters
    ----------
    settings
        What to put into it.
    rng
        Gives everything that is random.
    """
    depth = _depth(settings, rng)
    lamella = (depth >= 0).astype(np.uint8)
    wanted = settings.membranes + sum(settings.particles_per_species.values())
    scene = Scene(
        density=_cytoplasm(depth, settings, rng),
        lamella=lamella,
        semantic=np.zeros(settings.shape, np.uint8),
        instances=np.zeros(settings.shape, np.uint16 if wanted < 2**16 else np.uint32),
        particles=pd.DataFrame(),
    )
    taken = lamella == 0
    rows: list[dict[str, object]] = []
    for semantic_class, name, number, draw in _wanted(settings):
        for placed in range(number):
            found = _find_place(taken, draw, rng)
            if found is None:
                logger.warning("Only %d of %d x %s found a place.", placed, number, name)
                break
            drawing, box = found
            taken[box] |= drawing.mask
            _stamp(scene, drawing, box, len(rows) + 1, semantic_class)
            rows.append(_row(drawing, box, len(rows) + 1, semantic_class, name))
    scene.particles = pd.DataFrame(rows, columns=_COLUMNS)
    return scene


def _wanted(settings: SimulationSettings) -> Iterator[tuple[int, str, int, Draw]]:
    """Class number, class name, how many and how to draw one; the largest first, to find room."""
    size = settings.voxel_size
    vesicle = partial(draw_vesicle, settings.membrane_radius, size)
    yield 1, settings.class_names[1], settings.membranes, vesicle
    numbered = list(enumerate(settings.particles_per_species.items(), 2))
    for semantic_class, (name, number) in sorted(numbered, key=_size, reverse=True):
        yield semantic_class, name, number, partial(draw_particle, name, size)


def _size(numbered: tuple[int, tuple[str, int]]) -> float:
    return SPECIES[numbered[1][0]].radius


def _depth(settings: SimulationSettings, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """How deep in the lamella each voxel lies, in Å from the nearer face; negative outside."""
    azimuth = rng.uniform(0, 2 * math.pi)
    tilt = math.radians(settings.lamella_tilt)
    normal = (
        math.cos(tilt),
        math.sin(tilt) * math.sin(azimuth),
        math.sin(tilt) * math.cos(azimuth),
    )
    z, y, x = (
        (np.arange(size, dtype=np.float32) - (size - 1) / 2) * settings.voxel_size * part
        for size, part in zip(settings.shape, normal, strict=True)
    )
    height = z[:, None, None] + y[:, None] + x
    return np.float32(settings.thickness / 2) - np.abs(height)


def _cytoplasm(
    depth: npt.NDArray[np.float32], settings: SimulationSettings, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Density of the empty lamella: crowded with what is too small to be told apart."""
    crowd = rng.standard_normal(settings.shape, dtype=np.float32)
    crowd = gaussian_filter(crowd, CROWDING_SIZE / settings.voxel_size, mode="wrap")
    crowd *= CROWDING / crowd.std()
    return ((CYTOPLASM + crowd) * ndtr(depth / np.float32(settings.voxel_size))).astype(np.float32)


def _find_place(
    taken: npt.NDArray[np.bool_], draw: Draw, rng: np.random.Generator
) -> tuple[Drawing, tuple[slice, ...]] | None:
    """Try until the drawing overlaps nothing; neighbours keep at least one voxel apart."""
    for _ in range(DRAWINGS):
        drawing = draw(rng)
        size = np.array(drawing.mask.shape)
        room = np.array(taken.shape) - size + 1
        if (room <= 0).any():
            continue
        footprint = binary_dilation(drawing.mask)
        for _ in range(PLACES):
            corner = rng.integers(0, room)
            box = tuple(slice(int(a), int(a + n)) for a, n in zip(corner, size, strict=True))
            if not taken[box][footprint].any():
                return drawing, box
    return None


def _stamp(
    scene: Scene, drawing: Drawing, box: tuple[slice, ...], label: int, semantic_class: int
) -> None:
    """Put a drawing into densities and labels: it replaces the cytoplasm, in part at its edge."""
    density = scene.density[box]
    density += drawing.cover * (np.float32(drawing.density) - density)
    scene.semantic[box][drawing.mask] = semantic_class
    scene.instances[box][drawing.mask] = label


def _row(
    drawing: Drawing, box: tuple[slice, ...], label: int, semantic_class: int, name: str
) -> dict[str, object]:
    centre = [side.start + middle for side, middle in zip(box, drawing.centre, strict=True)]
    area = int(drawing.mask.sum())
    values = (label, semantic_class, name, area, *centre, *drawing.angles)
    return dict(zip(_COLUMNS, values, strict=True))
