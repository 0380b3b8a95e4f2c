"""Drop the small components of a segmentation, class by class: ``semantic_postprocessing``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.components import remove_small_components
from cryosiam_engine.config import PostprocessingConfig
from cryosiam_engine.hdf5 import update_dataset
from cryosiam_engine.label_files import find_label_files, read_labels
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output, accept_changed_output, status_folder
from cryosiam_engine.volume import read_header, write_mrc_like


@dataclass
class Labels:
    """Labels (z, y, x) of one tomogram and every file that holds them."""

    tomogram: Tomogram
    files: list[Path]
    labels: NDArray[np.integer]


@dataclass
class Filtered:
    """Labels without small components, and how many components each class lost."""

    source: Labels
    removed: dict[int, int]


class SizeFilterCommand(TomogramCommand[Labels, Filtered]):
    """``semantic_postprocessing``: works in place, as the original does.

    Other datasets of the files (probability maps) are kept.

    Parameters
    ----------
    config
        The validated configuration; ``postprocessing_sizes`` is indexed by class.
    """

    name = "semantic_postprocessing"

    def __init__(self, config: PostprocessingConfig) -> None:
        self._config = config
        self._folder = config.prediction_folder

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The sizes; the files themselves change with every run."""
        return {"config_sha256": self._config.sha256()}

    def load(self, tomogram: Tomogram) -> Labels:
        """Read the labels that a prediction left in the folder."""
        files = find_label_files(self._folder, tomogram.stem, self._config.file_extension)
        return Labels(tomogram, files, read_labels(files[0]))

    def compute(self, loaded: Labels, progress: Progress) -> Filtered:
        """Remove what is not larger than its class's size."""
        return Filtered(
            loaded, remove_small_components(loaded.labels, self._config.postprocessing_sizes)
        )

    def save(self, result: Filtered) -> Saved:
        """Replace the labels in every file that holds them."""
        source = result.source
        warnings = []
        if not source.labels.any():
            warnings.append(
                "NOTHING IS LEFT: every component is at most as large as its class's "
                "postprocessing_sizes. Lower the sizes and run semantic_predict again."
            )
        outputs = []
        for path in source.files:
            _replace_labels(path, source.labels)
            accept_changed_output(
                status_folder(self._folder, "semantic_predict"), source.tomogram.stem, path
            )
            outputs.append(Output(FileIdentity.of(path), "labels", source.labels.shape))
        removed = {str(index): count for index, count in result.removed.items()}
        return Saved(outputs, {"components_removed": removed}, warnings)


def _replace_labels(path: Path, labels: NDArray[np.integer]) -> None:
    if path.suffix == ".h5":
        update_dataset(path, "labels", labels)
        return
    write_mrc_like(path, labels, read_header(path))
