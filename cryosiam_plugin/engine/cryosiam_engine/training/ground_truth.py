"""Choose the labels to be learned: ``semantic_filter_ground_truth``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.config.tomogram_list import stem_of
from cryosiam_engine.config.training import GroundTruthConfig, TrainingConfig
from cryosiam_engine.embeddings.expansion import expand_all
from cryosiam_engine.files import atomic_path
from cryosiam_engine.label_files import label_dtype, read_labels
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.run import RunReport, Saved, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output, status_folder
from cryosiam_engine.volume import read_header, write_mrc_like

logger = logging.getLogger(__name__)

#: The table that says which label became which class.
MAPPING_TABLE = "label_mapping.csv"
#: Voxels by which labels grow.
EXPANSION = 1


@dataclass
class GroundTruth:
    """Labels `(z, y, x)` of one tomogram, before or after the choice."""

    tomogram: Tomogram
    labels: NDArray[np.integer]


def class_of_label(selected_labels: Sequence[int]) -> dict[int, int]:
    """The classes that selected labels become: 1, 2, ... in the given order.

    Examples
    --------
    >>> class_of_label([7, 3])
    {7: 1, 3: 2}
    """
    return {label: index for index, label in enumerate(selected_labels, 1)}


def select_labels(
    labels: NDArray[np.integer], selected_labels: Sequence[int]
) -> NDArray[np.integer]:
    """Keep some labels, renumbered by :func:`class_of_label`; the others become background.

    Afterwards every class grows by one voxel into the background.

    Parameters
    ----------
    labels
        `(z, y, x)`.
    selected_labels
        In the order of the new classes; a single one gives a binary mask.

    Returns
    -------
    numpy.ndarray
        uint8, or uint16 for more than 255 classes.
    """
    chosen = np.zeros(labels.shape, label_dtype(len(selected_labels) + 1))
    for part in slabs(labels.shape):
        for label, index in class_of_label(selected_labels).items():
            chosen[part][labels[part] == label] = index
    return expand_all(chosen, EXPANSION)


class GroundTruthCommand(TomogramCommand[GroundTruth, GroundTruth]):
    """``semantic_filter_ground_truth``.

    Parameters
    ----------
    config
        The validated configuration.
    """

    name = GroundTruthConfig.command

    def __init__(self, config: GroundTruthConfig) -> None:
        self._config = config

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The selected labels and the label file."""
        inputs = [vars(FileIdentity.of(tomogram.path))] if tomogram.path.exists() else []
        return {"selected_labels": self._config.selected_labels, "inputs": inputs}

    def load(self, tomogram: Tomogram) -> GroundTruth:
        """Read the labels."""
        return GroundTruth(tomogram, read_labels(tomogram.path))

    def compute(self, loaded: GroundTruth, progress: Progress) -> GroundTruth:
        """Choose and expand."""
        labels = select_labels(loaded.labels, self._config.selected_labels)
        return GroundTruth(loaded.tomogram, labels)

    def save(self, result: GroundTruth) -> Saved:
        """Write the labels under their file name, with their geometry."""
        source, labels = result.tomogram.path, result.labels
        header = read_header(source)
        path = self._config.labels_folder / source.name
        write_mrc_like(path, labels, header)
        counts = sum(
            np.bincount(labels[part].ravel(), minlength=len(self._config.selected_labels) + 1)
            for part in slabs(labels.shape)
        )
        mapping = class_of_label(self._config.selected_labels)
        voxels = {str(label): int(np.asarray(counts)[index]) for label, index in mapping.items()}
        absent = [label for label, count in voxels.items() if not count]
        warnings = [f"NO VOXELS with the label {', '.join(absent)}."] if absent else []
        outputs = [Output(FileIdentity.of(path), "labels", labels.shape, header.voxel_size)]
        return Saved(outputs, {"voxels_per_label": voxels}, warnings)

    def write_mapping(self) -> None:
        """Write which label became which class, to ``label_mapping.csv`` beside the new labels.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        rows = list(class_of_label(self._config.selected_labels).items())
        with atomic_path(self._config.labels_folder / MAPPING_TABLE) as partial:
            pd.DataFrame(rows, columns=["label", "class"]).to_csv(partial, index=False)
        logger.info("Labels become classes: %s", ", ".join(f"{a} -> {b}" for a, b in rows))


def run(config: GroundTruthConfig, args: argparse.Namespace) -> RunReport:
    """Run the command.

    Parameters
    ----------
    config
        The validated configuration.
    args
        Of the command line; its ``filename`` lists the only files to process.

    Raises
    ------
    EngineError
        When the run cannot begin.
    """
    config.check_paths()
    tomograms = training_tomograms(config, args.filename)
    command = GroundTruthCommand(config)
    command.write_mapping()
    folder = status_folder(config.prediction_folder, command.name)
    return TomogramLoop(command, folder).run(tomograms)


def training_tomograms(config: TrainingConfig, filenames: Sequence[str]) -> list[Tomogram]:
    """The files that a command of the training prepares."""
    return [
        Tomogram(path, stem_of(path, config.file_extension))
        for path in config.training_files(filenames)
    ]
