"""The tomograms that the built-in models learn from, and what is true about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.preprocessing import percentiles
from cryosiam_engine.simulation import SimulationSettings, simulate
from cryosiam_engine.volume import write_mrc

#: Tomograms to learn from; the last of them only judge.
N_TOMOGRAMS, N_VALIDATION = 8, 2
SHAPE = (80, 144, 144)
#: Signal-to-noise ratios, in turn: from easy to hard.
SNRS = (1.0, 0.5, 0.25)
PARTICLES = {"ribosome": 22, "proteasome": 16, "rubisco": 40}
#: Apart from the seeds of demonstrations and tests.
FIRST_SEED = 1000
#: Grey values are stretched between these percentiles, as before denoising.
_PERCENTILES = (0.1, 99.9)


def simulate_tomograms(folder: Path, n_tomograms: int = N_TOMOGRAMS) -> list[str]:
    """Write tomograms and what is true about them, each kind in a folder of its own.

    Parameters
    ----------
    folder
        Gets ``raw``, ``noisy`` (bright protein, stretched to [0, 1]), ``clean``, ``semantic``,
        ``lamella`` and ``instances``. What is there already is not made again.
    n_tomograms
        How many.

    Returns
    -------
    list of str
        Names of the files.
    """
    names = []
    for number in range(n_tomograms):
        name = f"TS_{number + 1:02d}"
        names.append(f"{name}.mrc")
        if (folder / "instances" / names[-1]).is_file():
            continue
        settings = SimulationSettings(
            shape=SHAPE,
            particles_per_species=PARTICLES,
            membranes=3,
            membrane_radius=(180.0, 330.0),
            lamella_tilt=5.0,
            snr=SNRS[number % len(SNRS)],
            seed=FIRST_SEED + number,
        )
        made = simulate(settings, name)
        volumes: dict[str, NDArray[Any]] = {
            "raw": made.tomogram,
            "noisy": _stretched(-made.tomogram),
            "clean": _stretched(made.clean),
            "semantic": made.semantic,
            "lamella": made.lamella,
            "instances": made.instances,
        }
        for kind, volume in volumes.items():
            write_mrc(folder / kind / names[-1], volume, voxel_size=settings.voxel_size)
    return names


def _stretched(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    bounds = percentiles(volume.astype(np.float32), *_PERCENTILES)
    stretched = (volume - bounds.low) / (bounds.high - bounds.low)
    return np.clip(stretched, 0, 1).astype(np.float32)
