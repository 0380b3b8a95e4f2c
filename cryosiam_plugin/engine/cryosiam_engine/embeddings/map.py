"""The interactive map of all particles: ``simsiam_embeddings_map``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.clustering.cluster_files import cluster_table
from cryosiam_engine.clustering.map_request import MapRequest
from cryosiam_engine.clustering.reduction import pca_coordinates, umap_coordinates
from cryosiam_engine.clustering.sources import (
    Particles,
    Source,
    find_sources,
    input_identities,
    read_particles_of,
)
from cryosiam_engine.config import EmbeddingMapConfig
from cryosiam_engine.embeddings.map_pages import CLUSTER, page_writer
from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.files import atomic_path
from cryosiam_engine.run import RunReport, Saved, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output, status_folder

logger = logging.getLogger(__name__)

#: The name under which the status file knows all tomograms together.
ALL = "all"
#: Methods whose clusters are shown where their table lies in the folder, and their names.
METHODS = {"kmeans": "k-means", "spectral": "spectral", "hdbscan": "HDBSCAN"}


@dataclass
class Mapped:
    """Particles with their places in the maps, and everything known of them."""

    coordinates: dict[str, NDArray[np.float32]]
    table: pd.DataFrame
    counts: list[int]


class EmbeddingMapCommand(TomogramCommand[Particles, Mapped]):
    """Maps the particles of all tomograms together, with the clusters that were found before.

    Parameters
    ----------
    config
        The validated configuration.
    """

    name = "simsiam_embeddings_map"

    def __init__(self, config: EmbeddingMapConfig) -> None:
        self._config = config
        self._folder = config.prediction_folder

    def _sources(self) -> list[Source]:
        config = self._config
        return find_sources(self._folder, config.clustering_files, config.file_extension)

    def _cluster_files(self) -> dict[str, Path]:
        files = {name: self._folder / f"{kind}_clusters.csv" for kind, name in METHODS.items()}
        return {name: path for name, path in files.items() if path.is_file()}

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The configuration, the embeddings, the clusters and the tomograms of the pictures."""
        sources = self._sources()
        inputs = [vars(i) for source in sources for i in input_identities(source)]
        files = [*self._cluster_files().values()]
        if self._config.data_folder:
            extension = self._config.file_extension
            files += [self._config.data_folder / f"{s.stem}{extension}" for s in sources]
        inputs += [vars(FileIdentity.of(file)) for file in files if file.is_file()]
        return {"config_sha256": self._config.sha256(), "inputs": inputs}

    def load(self, tomogram: Tomogram) -> Particles:
        """Read the embeddings of all tomograms."""
        return read_particles_of(self._sources())

    def compute(self, loaded: Particles, progress: Progress) -> Mapped:
        """Find every particle's place, by UMAP and by PCA."""
        n = len(loaded.embeddings)
        if not n:
            raise ConfigurationError(
                "There are no particles to map: no tomogram has any embedding.",
                remedy="Check the size limits of the embeddings and the particles they were "
                "computed for.",
            )
        logger.info("Mapping %d particles by UMAP and PCA.", n)
        coordinates = {
            "UMAP": umap_coordinates(loaded.embeddings),
            "PCA": pca_coordinates(loaded.embeddings, 2),
        }
        return Mapped(coordinates, self._table(loaded), loaded.counts)

    def _table(self, particles: Particles) -> pd.DataFrame:
        """One row per particle; a column ``cluster (<method>)`` for each clustering there is."""
        n = len(particles.embeddings)
        table = cluster_table(particles, np.zeros(n, np.int32))
        table = table.drop(columns=[CLUSTER, "distance_to_center", "rank"])
        for method, path in self._cluster_files().items():
            clusters = pd.read_csv(path, dtype={"tomo": str}, keep_default_na=False)
            same = len(clusters) == n and (clusters["tomo"] == table["tomo"].astype(str)).all()
            if not same or (clusters["label"] != table["label"]).any():
                raise MaskError(
                    f"{path} is of other particles than the embeddings in {self._folder}.",
                    remedy="Run the clustering again, or remove the file.",
                )
            table[f"{CLUSTER} ({method})"] = clusters[CLUSTER].to_numpy()
        return table

    def save(self, result: Mapped) -> Saved:
        """Write the table with all places, and the page with its pictures."""
        config = self._config
        table = result.table
        for name, points in result.coordinates.items():
            for axis, column in enumerate(points.T):
                table[f"{name.lower()}-{axis}"] = column
        data = self._folder / "embeddings_map.csv"
        with atomic_path(data) as partial:
            table.to_csv(partial, index=False, lineterminator="\n")
        columns = [name for name in table.columns if name.startswith(CLUSTER)]
        n = len(table)
        subtitle = f"{n:,} particles of {len(result.counts)} tomograms"
        write_page = page_writer(
            config.data_folder, config.file_extension, config.picture_size, subtitle
        )
        page = self._folder / "embeddings_map.html"
        request = MapRequest(
            page, "Map of embeddings", result.coordinates, table, next(iter(columns), "tomo")
        )
        files = write_page(request)
        outputs = [Output(FileIdentity.of(data), "particles", (n,))]
        outputs += [Output(FileIdentity.of(file), "map", (n,)) for file in files]
        return Saved(outputs, {"particles": n})


def run(config: EmbeddingMapConfig, *, overwrite: bool = False) -> RunReport:
    """Map all particles together; finished and unchanged is not done again.

    Parameters
    ----------
    config
        The validated configuration.
    overwrite
        Do it again all the same.

    Returns
    -------
    RunReport
        With the one entry ``all``. The status file is ``all.json``.
    """
    folder = status_folder(config.prediction_folder, config.command)
    loop = TomogramLoop(EmbeddingMapCommand(config), folder, overwrite=overwrite)
    return loop.run([Tomogram(config.prediction_folder, ALL)])
