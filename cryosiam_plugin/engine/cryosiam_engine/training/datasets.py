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
    find_classes,
)
from cryosiam_engine.training.dense_views import OverlappingViews, largest_block
from cryosiam_engine.training.places import DrawnPlaces, ListedPlaces, grid_places, whole_volumes
from cryosiam_engine.training.samples import PatchSamples
from cryosiam_engine.training.subtomograms import ViewPairs, find_particles
from cryosiam_engine.training.tomograms import uses_patch_folder
from cryosiam_engine.training.volumes import LABELS, TrainingVolume

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
) -> TrainingSets:
    """Make the samples of both kinds.

    Parameters
    ----------
    config
        Of the training.
    training, validation
        Opened volumes.

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
    if uses_patch_folder(config):
        return TrainingSets(
            PatchSamples(
                config, training, ListedPlaces(whole_volumes(training), config.seed), True
            ),
            PatchSamples(config, validation, ListedPlaces(whole_volumes(validation)), False),
        )
    size = config.patches.patch_size
    drawn = DrawnPlaces(
        training, _chooser(config, training), size, config.patches.patches_per_epoch
    )
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
    config: TrainConfig, volumes: Sequence[TrainingVolume]
) -> BalancedPlaces | UniformPlaces:
    if config.task == "denoising":
        return UniformPlaces(volumes)
    found = label_places(config, volumes)
    check_classes(config, volumes, found)
    if config.patches.class_balance or config.patches.remove_only_background:
        background = not config.patches.remove_only_background
        return BalancedPlaces(found, with_background=background)
    return UniformPlaces(volumes)


def label_places(config: TrainConfig, volumes: Sequence[TrainingVolume]) -> list[ClassPlaces]:
    """Look through the labels of all volumes; for instances, 1 stands for any of them."""
    binary = config.task != "semantic"
    return [
        find_classes(volume, binary=binary, seed=config.seed)
        for volume in volumes
        if LABELS in volume.files
    ]


def check_classes(
    config: TrainConfig, volumes: Sequence[TrainingVolume], found: Sequence[ClassPlaces]
) -> None:
    """Refuse labels that cannot be learned.

    Raises
    ------
    MaskError
        When there is only background, or a class without a channel.
    """
    if not any(label for one in found for label in one.counts):
        raise MaskError(
            "The labels of all training tomograms are background (0) only.",
            remedy="Check labels_folder: there is nothing to learn from these labels.",
        )
    largest = max(config.network.out_channels - 1, 1)
    for volume, one in zip(volumes, found, strict=True):
        beyond = [label for label in one.counts if label > largest]
        if config.task == "semantic" and beyond:
            raise MaskError(
                f"{volume.files[LABELS]} has the labels {', '.join(map(str, beyond))}; a network "
                f"with out_channels {config.network.out_channels} learns 0 to {largest}.",
                remedy="Raise parameters.network.out_channels (it counts the background), or "
                "choose labels with semantic_filter_ground_truth.",
            )
