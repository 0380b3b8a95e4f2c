"""The built-in models: small networks for every task, trained on simulated tomograms.

They are for the demonstration, for tests and for the first look, not for real data; the model
cards beside this file say how they were made and what they reach.
"""

from __future__ import annotations

from pathlib import Path

from cryosiam_engine.errors import CheckpointError
from cryosiam_engine.simulation import SimulationSettings

#: Every model learned from tomograms that the first one has denoised.
NAMES = ("denoising", "lamella", "semantic", "instance", "embedding")

#: What the label values of the semantic model mean.
CLASS_NAMES = {0: "background", 1: "membrane", 2: "ribosome", 3: "proteasome", 4: "rubisco"}

#: Å; of the tomograms that the models learned from.
VOXEL_SIZE = 13.48

#: Particles of each species in a tomogram, in the order of the classes.
_PARTICLES = {"ribosome": 22, "proteasome": 16, "rubisco": 40}


def demo_model(name: str) -> Path:
    """The file of a built-in model.

    Parameters
    ----------
    name
        One of :data:`NAMES`.

    Returns
    -------
    Path
        A ``.safetensors`` file, for ``trained_model`` or ``pretrained_model``.

    Raises
    ------
    CheckpointError
        When there is no such model, or this installation lacks its file.
    """
    if name not in NAMES:
        raise CheckpointError(
            f"There is no built-in model {name!r}.", remedy=f"Choose among {', '.join(NAMES)}."
        )
    # A real file wherever the package was installed; it is never run from an archive.
    path = Path(__file__).with_name(f"demo_{name}.safetensors")
    if not path.is_file():
        raise CheckpointError(
            f"The built-in model {path.name} is missing in {path.parent}.",
            remedy="Install cryosiam-engine again, or make the models with "
            "scripts/train_demo_models.py.",
        )
    return path


def sample_settings(seed: int, snr: float = 0.5) -> SimulationSettings:
    """A tomogram of the kind that the models learned from.

    Parameters
    ----------
    seed
        Below 1000 for a tomogram that no model has seen in its training.
    snr
        Variance of the signal over variance of the noise; the models have seen 0.25 to 1.
    """
    return SimulationSettings(
        shape=(80, 144, 144),
        voxel_size=VOXEL_SIZE,
        particles_per_species=_PARTICLES,
        membranes=3,
        membrane_radius=(180.0, 330.0),
        lamella_tilt=5.0,
        snr=snr,
        seed=seed,
    )
