"""One simulated tomogram, from its settings to the tomogram and its truth."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from cryosiam_engine.simulation.imaging import image
from cryosiam_engine.simulation.scene import build_scene
from cryosiam_engine.simulation.settings import SimulationSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SimulatedTomogram:
    """A tomogram and everything that is true about it; all volumes are ``(z, y, x)``.

    Parameters
    ----------
    name
        Of the tomogram: the stem of its files.
    tomogram
        float32, protein dark, with noise and missing wedge.
    clean
        float32, the sample's density: protein bright, no noise, no wedge, no band-pass.
    semantic
        uint8: 0 background, 1 membrane, 2... the species in the order asked for.
    instances
        uint16 (uint32 beyond 65,535 objects): one number per particle and vesicle.
    lamella
        uint8: 1 inside the lamella. It holds all particles and vesicles.
    particles
        One row per particle and vesicle: label (as in `instances`), semantic_class, class_name,
        area (voxels), centroid-0, centroid-1, centroid-2 (z, y, x in voxels from 0: the exact
        centre), rot, tilt, psi (RELION's angles in degrees; 0 for vesicles), tomo.
    class_names
        Name of every value of `semantic`.
    settings
        What was asked for.
    """

    name: str
    tomogram: npt.NDArray[np.float32]
    clean: npt.NDArray[np.float32]
    semantic: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.unsignedinteger]
    lamella: npt.NDArray[np.uint8]
    particles: pd.DataFrame
    class_names: dict[int, str]
    settings: SimulationSettings


def simulate(settings: SimulationSettings, name: str = "TS_01") -> SimulatedTomogram:
    """Simulate one tomogram.

    Parameters
    ----------
    settings
        What to simulate. The same settings give the same voxels.
    name
        Of the tomogram.
    """
    # Sample and noise have random numbers of their own: another snr leaves the sample as it is.
    for_sample, for_noise = np.random.default_rng(settings.seed).spawn(2)
    scene = build_scene(settings, for_sample)
    tomogram = image(scene.density, scene.lamella, settings, for_noise)
    logger.info(
        "%s: %s voxels of %g Å, %d objects.",
        name,
        " x ".join(map(str, settings.shape)),
        settings.voxel_size,
        len(scene.particles),
    )
    return SimulatedTomogram(
        name=name,
        tomogram=tomogram,
        clean=scene.density,
        semantic=scene.semantic,
        instances=scene.instances,
        lamella=scene.lamella,
        particles=scene.particles.assign(tomo=name),
        class_names=settings.class_names,
        settings=settings,
    )
