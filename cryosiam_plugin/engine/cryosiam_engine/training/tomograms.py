"""Which files belong to a training: tomograms with their labels, or patches on the disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cryosiam_engine.config.tomogram_list import stem_of, written_extension
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import ConfigurationError, EngineError, MaskError
from cryosiam_engine.training.mapped_volume import mapped_volume
from cryosiam_engine.training.patch_grid import DISTANCES as DISTANCE_FOLDER
from cryosiam_engine.training.patch_grid import IMAGES as IMAGE_FOLDER
from cryosiam_engine.training.patch_grid import LABELS as LABEL_FOLDER
from cryosiam_engine.training.patch_grid import NOISY as NOISY_FOLDER
from cryosiam_engine.training.patch_grid import patches_of
from cryosiam_engine.training.patch_state import check_patches
from cryosiam_engine.training.problems import raise_together
from cryosiam_engine.training.split import Split, choose_split, divide, divide_patches
from cryosiam_engine.training.volumes import IMAGE, LABELS, NOISY, TARGET, TrainingVolume

logger = logging.getLogger(__name__)

#: What a tomogram lacks.
_MISSING = {LABELS: "labels", TARGET: "clean version", NOISY: "noisy version"}
#: Tasks whose samples can come from the folder that semantic_train_create_patches fills.
_WITH_PATCH_FOLDER = ("semantic", "instance")


def uses_patch_folder(config: TrainConfig) -> bool:
    """Whether patches are read from ``patches_folder`` rather than drawn from the tomograms.

    Raises
    ------
    ConfigurationError
        When the folder is asked for, but not there or of no use for the task.
    """
    if config.patch_source == "tomograms":
        return False
    folder = config.patches_folder
    exists = folder is not None and (folder / IMAGE_FOLDER).is_dir()
    usable = exists and config.task in _WITH_PATCH_FOLDER
    if config.patch_source == "folder" and not usable:
        raise ConfigurationError(
            f"patch_source is folder, but {folder} holds no patches for the task {config.task}.",
            remedy="Run semantic_train_create_patches first, or set patch_source to tomograms.",
        )
    return usable


def fresh_split(config: TrainConfig) -> Split:
    """Divide the tomograms as the configuration says.

    Raises
    ------
    ConfigurationError
        When there are none, or when a tomogram is both for training and for validation.
    """
    names = [path.name for path in config.training_files()]
    chosen = None
    if config.val_files:
        extension = config.file_extension
        chosen = [n if n.endswith(extension) else f"{n}{extension}" for n in config.val_files]
        if config.train_files is None:
            names = [name for name in names if name not in chosen]
        else:
            own = len(set(config.train_files))
            names = names[:own]
    return choose_split(names, chosen, config.validation_ratio, config.seed)


def training_volumes(
    config: TrainConfig, split: Split
) -> tuple[list[TrainingVolume], list[TrainingVolume]]:
    """Open everything for training and everything for validation.

    Parameters
    ----------
    config
        Of the training.
    split
        Which tomograms are for what.

    Raises
    ------
    TomogramError, MaskError
        When a file is missing or does not fit the others of its name.
    ConfigurationError
        When there is nothing to train on or to validate with.
    """
    names = [*split.training, *split.validation, *split.shared]
    _tell_source(config)
    if uses_patch_folder(config):
        check_patches(config, names)
    opened = _open_all(config, names)
    training = [one for name in split.training for one in opened[name]]
    validation = [one for name in split.validation for one in opened[name]]
    for name in split.shared:
        parts = opened[name]
        if parts and uses_patch_folder(config):
            training, validation = divide_patches(parts, config.validation_ratio)
            continue
        logger.info("One tomogram only: its last part along the longest axis is for validation.")
        for whole in parts:
            labels = mapped_volume(whole.files[LABELS]) if LABELS in whole.files else None
            first, rest = divide(whole.region, config.validation_ratio, labels)
            training.append(replace(whole, region=first))
            validation.append(replace(whole, region=rest))
    if not training or not validation:
        raise ConfigurationError(
            "There are no patches to "
            f"{'train on' if not training else 'validate with'} in {config.patches_folder}.",
            remedy="Run semantic_train_create_patches for all tomograms of train_files and "
            "val_files, or set patch_source to tomograms.",
        )
    return training, validation


def _tell_source(config: TrainConfig) -> None:
    folder = config.patches_folder
    if uses_patch_folder(config):
        logger.info("Patches are read from %s (patch_source: %s).", folder, config.patch_source)
    elif folder is not None and config.patch_source == "auto":
        logger.info(
            "Patches are drawn from the tomograms: %s holds none for the task %s.",
            folder,
            config.task,
        )
    else:
        logger.info("Patches are drawn from the tomograms.")


def _open_all(config: TrainConfig, names: Sequence[str]) -> dict[str, list[TrainingVolume]]:
    """Open what belongs to each name; what is wrong with any of them is told at once."""
    opener = _open_patches if uses_patch_folder(config) else _open_tomogram
    opened: dict[str, list[TrainingVolume]] = {}
    problems: list[EngineError] = []
    for name in sorted(names):
        try:
            opened[name] = opener(config, name)
        except EngineError as error:
            problems.append(error)
    raise_together(problems, len(names), "tomograms")
    return opened


def _open_tomogram(config: TrainConfig, name: str) -> list[TrainingVolume]:
    folders: dict[str, Path | None] = {IMAGE: config.data_folder}
    if config.task == "denoising":
        folders[TARGET] = config.gt_folder
    elif config.task != "backbone":
        folders[LABELS] = config.labels_folder
    if config.transforms.use_noisy_input:
        folders[NOISY] = config.noisy_data_folder
    files = {kind: folder / name for kind, folder in folders.items() if folder is not None}
    for kind, path in files.items():
        if files[IMAGE].is_file() and not path.exists():
            raise MaskError(
                f"{name} has no {_MISSING[kind]}: {path} does not exist.",
                remedy="Put it there under this name; or, where only some of the tomograms have "
                "such a file, list those in train_files (and val_files).",
            )
    return [TrainingVolume.open(stem_of(Path(name), config.file_extension), files)]


def _open_patches(config: TrainConfig, name: str) -> list[TrainingVolume]:
    folder = config.patches_folder or Path()
    stem = stem_of(Path(name), config.file_extension)
    extension = written_extension(config.file_extension)
    volumes = []
    for path in patches_of(folder / IMAGE_FOLDER, stem, extension):
        files = {IMAGE: path, LABELS: folder / LABEL_FOLDER / path.name}
        if config.transforms.use_noisy_input:
            files[NOISY] = folder / NOISY_FOLDER / path.name
        distances = folder / DISTANCE_FOLDER / f"{path.name[: -len(extension)]}.npz"
        has_distances = config.network.distance_prediction and distances.is_file()
        volumes.append(TrainingVolume.open(stem, files, distances if has_distances else None))
    return volumes
