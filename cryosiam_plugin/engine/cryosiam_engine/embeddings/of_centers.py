"""Embeddings around given centres: ``simsiam_embeddings_from_centers_predict``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.config.embeddings import CenterEmbeddingsConfig
from cryosiam_engine.embeddings.center_table import read_centers, write_labelled
from cryosiam_engine.embeddings.command import Embedded, EmbeddingCommand
from cryosiam_engine.embeddings.model import EmbeddingModel
from cryosiam_engine.embeddings.patches import Box, cubes_around, cut_patch
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.particles_table import tomogram_stem
from cryosiam_engine.run import Tomogram
from cryosiam_engine.sliding_window import Progress

_CENTROID = [f"centroid-{axis}" for axis in range(3)]


@dataclass
class LoadedCenters:
    """One tomogram and its particles; the volume is given away to free memory.

    Attributes
    ----------
    tomogram
        Which one.
    volume
        Normalised (z, y, x); None once given away.
    table
        The particles whose cubes touch the tomogram.
    n_outside
        The others.
    """

    tomogram: Tomogram
    volume: NDArray[np.float32] | None
    table: pd.DataFrame
    n_outside: int


class CenterEmbeddingsCommand(EmbeddingCommand[LoadedCenters]):
    """``simsiam_embeddings_from_centers_predict``.

    A particle's sub-tomogram is the cube of ``centers_patch_size`` voxels around its centre, with
    zeros beyond the tomogram's border. (The original's begins at the border of the tomogram, or is
    empty.) The particles of all tomograms are in one table; where it has no labels they are
    numbered from 1 through the whole table, and ``centers_with_labels`` holds the result.

    Parameters
    ----------
    config
        The validated configuration.
    model
        The network.

    Raises
    ------
    ConfigurationError
        When the table of centres cannot be read or lacks something.
    """

    name = "simsiam_embeddings_from_centers_predict"

    def __init__(self, config: CenterEmbeddingsConfig, model: EmbeddingModel) -> None:
        super().__init__(config, model)
        self._file = config.centers_file
        self._edge = config.centers_patch_size
        table, has_labels = read_centers(config.centers_file, self._edge)
        if not has_labels:
            write_labelled(table, config.centers_file, config.prediction_folder)
        self._rows = {str(name): rows for name, rows in table.groupby("tomo", sort=False)}
        self._none = table.iloc[:0]

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """Also the tomogram's own particles: those of others may change."""
        rows = self._particles(tomogram).to_csv(index=False)
        digest = hashlib.sha256(rows.encode()).hexdigest()
        return {**super().determinants(tomogram), "centers_sha256": digest}

    def load(self, tomogram: Tomogram) -> LoadedCenters:
        """Read and check the tomogram, and leave out particles that are not in it."""
        volume = self.read_tomogram(tomogram)
        table = self._particles(tomogram).drop(columns="tomo")
        first = cubes_around(table[_CENTROID].to_numpy(np.float64), self._edge)
        touches = np.all((first < volume.shape) & (first + self._edge > 0), axis=1)
        n_outside = int(np.count_nonzero(~touches))
        if n_outside and n_outside == len(table):
            far = table[_CENTROID].iloc[0].tolist()
            raise ConfigurationError(
                f"None of the {n_outside} particles that {self._file} has for {tomogram.stem} "
                f"lies in the tomogram of {volume.shape} voxels (z, y, x); the first is at {far}.",
                remedy="Coordinates are expected in voxels of this tomogram: not in Å, not of "
                "another binning, and not counted from its centre.",
            )
        inside = table.iloc[np.flatnonzero(touches)].reset_index(drop=True)
        return LoadedCenters(tomogram, volume, inside, n_outside)

    def compute(self, loaded: LoadedCenters, progress: Progress) -> Embedded:
        """Embed one particle after the other."""
        volume, loaded.volume = loaded.volume, None
        assert volume is not None  # noqa: S101 - given away once only
        table, edge = loaded.table, self._edge
        first = cubes_around(table[_CENTROID].to_numpy(np.float64), edge)

        def patches() -> Iterator[NDArray[np.float32]]:
            for z, y, x in first.tolist():
                cube = Box((z, y, x), (z + edge, y + edge, x + edge))
                yield cut_patch(volume, cube, self.model.patch_size)

        embeddings = self.model.embed(patches(), len(table), progress)
        summary = {"particles_outside": loaded.n_outside}
        return Embedded(loaded.tomogram, table, embeddings, summary, self._warnings(loaded))

    def _warnings(self, loaded: LoadedCenters) -> list[str]:
        n_inside, warnings = len(loaded.table), []
        if loaded.n_outside:
            warnings.append(
                f"PARTICLES OUTSIDE: {loaded.n_outside} of {loaded.n_outside + n_inside} particles "
                "are so far outside the tomogram that their cubes do not touch it; they were left "
                "out. Check that the coordinates are those of this tomogram."
            )
        elif not n_inside:
            names = ", ".join(list(self._rows)[:3]) or "none"
            warnings.append(
                f"NO PARTICLES: {self._file} has none for {loaded.tomogram.stem}; the tomograms "
                f"named in it are: {names}{', ...' if len(self._rows) > 3 else ''}."
            )
        repeated = int(loaded.table["label"].duplicated().sum())
        if repeated:
            warnings.append(
                f"REPEATED LABELS: {repeated} of {n_inside} particles have the label of another "
                "one in this tomogram. Give each its own, or leave out the column of labels."
            )
        return warnings

    def _particles(self, tomogram: Tomogram) -> pd.DataFrame:
        """The table's rows of this tomogram, whether named with its file's ending or without."""
        for name in (tomogram.stem, tomogram_stem(tomogram.path.name)):
            if name in self._rows:
                return self._rows[name]
        return self._none
