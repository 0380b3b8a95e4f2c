"""The labels of a training are looked through before the first batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import EngineError, MaskError
from cryosiam_engine.training.class_places import REMEMBERED, ClassPlaces, find_classes
from cryosiam_engine.training.following import followed
from cryosiam_engine.training.problems import raise_together
from cryosiam_engine.training.volumes import LABELS, TrainingVolume

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundLabels:
    """Classes in the volumes for training and in those for validation, in their order.

    Empty where a task needs no labels.
    """

    training: list[ClassPlaces] = field(default_factory=list)
    validation: list[ClassPlaces] = field(default_factory=list)


def look_through_labels(
    config: TrainConfig,
    training: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
    *,
    with_places: bool,
) -> FoundLabels:
    """Read all labels once; for instances, 1 stands for any of them.

    Parameters
    ----------
    config
        Of the training.
    training, validation
        Opened volumes.
    with_places
        Whether it shall be known where the classes are, to draw patches around them.

    Raises
    ------
    MaskError
        When labels are negative or fractional, naming all such files.
    """
    volumes = [*training, *validation]
    if not all(LABELS in volume.files for volume in volumes):
        return FoundLabels()
    found: list[ClassPlaces] = []
    problems: list[EngineError] = []
    for number, volume in enumerate(followed(volumes, "Looking through the labels")):
        remembered = REMEMBERED if with_places and number < len(training) else 0
        binary = config.task != "semantic"
        try:
            found.append(find_classes(volume, binary, config.seed, remembered))
        except EngineError as error:
            problems.append(error)
    raise_together(problems, len(volumes), "label files")
    return FoundLabels(found[: len(training)], found[len(training) :])


def check_labels(
    config: TrainConfig,
    training: Sequence[TrainingVolume],
    validation: Sequence[TrainingVolume],
    found: FoundLabels,
) -> None:
    """Refuse labels that cannot be learned, or that cannot judge what was learned.

    Raises
    ------
    MaskError
        When there is only background to learn from, or a class without a channel.
    """
    if not any(label for one in found.training for label in one.counts):
        raise MaskError(
            "The labels of everything for training are background (0) only.",
            remedy="Check labels_folder (or patches_folder): there is nothing to learn from these "
            "labels.",
        )
    if config.task == "semantic":
        _check_channels(config, [*training, *validation], [*found.training, *found.validation])
    if not any(label for one in found.validation for label in one.counts):
        logger.warning(
            "The labels of everything for validation are background (0) only: how well the classes "
            "are found will not be judged. Choose val_files that show them."
        )


def _check_channels(
    config: TrainConfig, volumes: Sequence[TrainingVolume], found: Sequence[ClassPlaces]
) -> None:
    largest = max(config.network.out_channels - 1, 1)
    problems: list[EngineError] = []
    for volume, one in zip(volumes, found, strict=True):
        beyond = [label for label in one.counts if label > largest]
        if beyond:
            problem = MaskError(
                f"{volume.files[LABELS]} has the labels {', '.join(map(str, beyond))}; a network "
                f"with out_channels {config.network.out_channels} learns 0 to {largest}.",
                remedy="Raise parameters.network.out_channels (it counts the background), or "
                "choose labels with semantic_filter_ground_truth.",
            )
            problems.append(problem)
    raise_together(problems, len(volumes), "label files")
