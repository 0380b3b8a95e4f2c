"""Particle identification: from class labels to centres, ``semantic_to_centers``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.centers import particle_centers
from cryosiam_engine.config import CentersConfig
from cryosiam_engine.files import atomic_path, noting
from cryosiam_engine.label_files import find_label_files, read_labels
from cryosiam_engine.locks import locked
from cryosiam_engine.particles_table import merge_tables, write_class_tables
from cryosiam_engine.run import Saved, Tomogram, TomogramCommand
from cryosiam_engine.segmentation_files import confidence_file
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output, Status, status_folder, write_status
from cryosiam_engine.volume import read_volume

logger = logging.getLogger(__name__)

#: The name under which the status file of the tables knows all tomograms together.
ALL = "all"


@dataclass
class Labels:
    """Labels (z, y, x) of one tomogram and, where it was saved, how probable (%) they are."""

    tomogram: Tomogram
    labels: NDArray[np.integer]
    confidence: NDArray[np.int8] | None


@dataclass
class Centers:
    """Particle centres of one tomogram, one table per class."""

    tomogram: Tomogram
    tables: dict[int, pd.DataFrame]


class CentersCommand(TomogramCommand[Labels, Centers]):
    """``semantic_to_centers``.

    Each tomogram's particles of all classes are written as soon as they are known, to
    ``<stem>_particles.csv``; the tables per class, which hold every tomogram, at the end.

    Parameters
    ----------
    config
        The validated configuration.
    """

    name = "semantic_to_centers"

    def __init__(self, config: CentersConfig) -> None:
        self._config = config
        self._folder = config.prediction_folder
        self._found: dict[str, dict[int, pd.DataFrame]] = {}

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The configuration and the label file."""
        files = find_label_files(self._folder, tomogram.stem, self._config.file_extension)
        return {
            "config_sha256": self._config.sha256(),
            "inputs": [vars(FileIdentity.of(files[0]))],
        }

    def load(self, tomogram: Tomogram) -> Labels:
        """Read the labels that a prediction left in the folder."""
        files = find_label_files(self._folder, tomogram.stem, self._config.file_extension)
        labels = read_labels(files[0])
        path = confidence_file(self._folder, tomogram.stem)
        confidence = read_volume(path).data if path.is_file() else None
        if confidence is not None and confidence.shape != labels.shape:
            confidence = None  # of another prediction
        return Labels(tomogram, labels, confidence)

    def compute(self, loaded: Labels, progress: Progress) -> Centers:
        """Find the particles of every class."""
        n_classes = self._config.out_channels or int(loaded.labels.max()) + 1
        tables = particle_centers(
            loaded.labels,
            n_classes=n_classes,
            min_voxels=self._config.min_voxels,
            confidence=loaded.confidence,
        )
        for table in tables.values():
            table["tomo"] = loaded.tomogram.stem
        return Centers(loaded.tomogram, tables)

    def save(self, result: Centers) -> Saved:
        """Write this tomogram's own table."""
        stem = result.tomogram.stem
        rows = pd.concat(
            [t.assign(semantic_class=c) for c, t in result.tables.items()], ignore_index=True
        )
        path = self._folder / f"{stem}_particles.csv"
        with atomic_path(path) as partial:
            rows.to_csv(partial, index=False)
        # The tables over all tomograms have the original's columns.
        self._found[stem] = {
            c: t.drop(columns="score", errors="ignore") for c, t in result.tables.items()
        }
        counts = {str(c): len(table) for c, table in result.tables.items()}
        warnings = (
            []
            if len(rows)
            else [
                "NO PARTICLES: no component of any class is larger than min_voxels after erosion."
            ]
        )
        outputs = [Output(FileIdentity.of(path), "particles", rows.shape)]
        return Saved(outputs, {"particles_per_class": counts}, warnings)

    def write_tables(self, *, merge: bool) -> list[Path]:
        """Write ``labels_<class>.csv`` and ``.star`` over all tomograms of this run.

        Parameters
        ----------
        merge
            Keep the rows of tomograms that this run did not touch: runs of single tomograms,
            side by side in a job array, make one table together.

        Returns
        -------
        list of Path
            The files written.
        """
        classes = sorted({c for tables in self._found.values() for c in tables})
        lock = status_folder(self._folder, self.name) / ".tables.lock"
        with locked(lock, what="The particle tables", wait=True) as left, noting(left.note):
            tables = {c: self._table_of(c, merge=merge) for c in classes}
            paths = write_class_tables(tables, self._folder)
            self._note(tables, paths)
            return paths

    def _note(self, tables: dict[int, pd.DataFrame], paths: list[Path]) -> None:
        """Write a status of the tables, so that it is known what they were made from."""
        stems = {str(stem) for table in tables.values() for stem in table["tomo"].unique()}
        sources = (self._folder / f"{stem}_particles.csv" for stem in sorted(stems))
        inputs = [vars(FileIdentity.of(path)) for path in sources if path.is_file()]
        made_from = {"config_sha256": self._config.sha256(), "inputs": inputs}
        status = Status(self.name, ALL, "done", made_from)
        status.outputs = [
            Output(FileIdentity.of(path), "star" if path.suffix == ".star" else "particles", ())
            for path in paths
        ]
        write_status(status_folder(self._folder, self.name) / "tables", status)

    def _table_of(self, class_id: int, *, merge: bool) -> pd.DataFrame:
        parts = [tables[class_id] for tables in self._found.values() if class_id in tables]
        table = pd.concat(parts, ignore_index=True)
        if not merge:
            return table
        existing = self._folder / f"labels_{class_id}.csv"
        return merge_tables(existing, table, set(self._found))
