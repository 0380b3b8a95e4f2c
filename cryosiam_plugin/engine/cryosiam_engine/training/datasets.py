"""From opened volumes to samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import MaskError
from cryosiam_engine.training.class_places import (
    BalancedPlaces,
    ClassPlaces,
    UniformPlaces,
)
from cryosiam_engine.training.dense_views import OverlappingViews, largest_block
from cryosiam_engine.training.label_checks import (
    FoundLabels,
    check_labels,
    look_through_labels,
)
from cryosiam_engine.training.places import DrawnPlaces, ListedPlaces, grid_places, whole_volumes
from cryosiam_engine.training.samples import PatchSamples
from cryosiam_engine.training.subtomograms import ViewPairs, find_particles
from cryosiam_engine.training.tomograms import uses_patch_folder
from cryosiam_engine.training.volumes import TrainingVolume

logger = logging.getLogger(__name__)

Samples = Dataset[dict[str, Tensor]]


@dataclass(frozen=True)
class TrainingSets:
    """Samples for training and for validation."""

    training: Samples
    validation: Samples


def training_sets(
    config: TrainConfig,
    training: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
    labels: FoundLabels | None = None,
) -> TrainingSets:
    """Make the samples of both kinds.

    Parameters
    ----------
    config
        Of the training.
    training, validation
        Opened volumes.
    labels
        What is in them, where that is known already.

    Raises
    ------
    MaskError
        When there is nothing to learn: no labels but background, or classes that the network
        has no channel for.
    """
    if config.task == "embedding":
        return _particle_sets(config, training, validation)
    if config.task == "backbone":
        return _view_sets(config, training, validation)
    from_folder = uses_patch_folder(config)
    found = labels or look_through_labels(config, training, validation, with_places=not from_folder)
    if config.task != "denoising":
        check_labels(config, training, validation, found)
    if from_folder:
        return TrainingSets(
            PatchSamples(
                config, training, ListedPlaces(whole_volumes(training), config.seed), True
            ),
            PatchSamples(config, validation, ListedPlaces(whole_volumes(validation)), False),
        )
    size = config.patches.patch_size
    chooser = _chooser(config, training, found.training)
    drawn = DrawnPlaces(training, chooser, size, config.patches.patches_per_epoch)
    grid = grid_places(validation, size, config.patches.validation_patches)
    return TrainingSets(
        PatchSamples(config, training, drawn, True),
        PatchSamples(config, validation, ListedPlaces(grid), False),
    )


def _view_sets(
    config: TrainConfig,
    training: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
) -> TrainingSets:
    patches = config.patches
    anywhere, block = UniformPlaces(training), largest_block(patches)
    drawn = DrawnPlaces(training, anywhere, block, patches.patches_per_epoch)
    grid = ListedPlaces(grid_places(validation, patches.patch_size, patches.validation_patches))
    return TrainingSets(
        OverlappingViews(config, training, drawn, True),
        OverlappingViews(config, validation, grid, False),
    )


def _particle_sets(
    config: TrainConfig,
    training: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
) -> TrainingSets:
    sets = []
    for volumes, varied in ((training, True), (validation, False)):
        particles = find_particles(volumes, config)
        if len(particles) < 2:
            raise MaskError(
                f"There are {len(particles)} particles for "
                f"{'training' if varied else 'validation'}: too few.",
                remedy="Check labels_folder (instances, a number for each particle), "
                "min_particle_size and max_particle_size, or give more tomograms.",
            )
        sets.append(ViewPairs(config, volumes, particles, varied=varied))
    logger.info("%d particles to train on, %d to validate with.", len(sets[0]), len(sets[1]))
    return TrainingSets(*sets)


def _chooser(
    config: TrainConfig, volumes: Sequence[TrainingVolume], found: Sequence[ClassPlaces]
) -> BalancedPlaces | UniformPlaces:
    patches = config.patches
    if found and (patches.class_balance or patches.remove_only_background):
        return BalancedPlaces(
            found,
            with_background=not patches.remove_only_background,
            equally=patches.class_balance,
        )
    return UniformPlaces(volumes)
