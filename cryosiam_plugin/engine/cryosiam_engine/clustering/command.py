"""The three clustering commands: one result for all tomograms together."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.clustering.cluster_files import (
    cluster_table,
    write_cluster_table,
    write_clusters,
    write_map_data,
)
from cryosiam_engine.clustering.concatenated import concatenate
from cryosiam_engine.clustering.density import hdbscan_clusters
from cryosiam_engine.clustering.kmeans import kmeans_clusters
from cryosiam_engine.clustering.map_request import MapRequest, PageWriter
from cryosiam_engine.clustering.reduction import pca_coordinates, umap_coordinates
from cryosiam_engine.clustering.result import Clustering
from cryosiam_engine.clustering.sources import (
    Particles,
    Source,
    find_sources,
    input_identities,
    read_particles_of,
)
from cryosiam_engine.clustering.spectral import spectral_clusters
from cryosiam_engine.config import ClusteringConfig, HdbscanConfig, KmeansConfig, SpectralConfig
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import output_error
from cryosiam_engine.locks import locked
from cryosiam_engine.run import RunReport, Saved, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.sliding_window import Progress
from cryosiam_engine.status import FileIdentity, Output, status_folder

logger = logging.getLogger(__name__)

#: The name under which the loop and the status file know all tomograms together.
ALL = "all"

_KINDS: dict[type[ClusteringConfig], str] = {
    KmeansConfig: "kmeans",
    SpectralConfig: "spectral",
    HdbscanConfig: "hdbscan",
}


@dataclass
class Clustered:
    """Particles, their clusters and, where a map was asked for, their places in it."""

    particles: Particles
    clustering: Clustering
    coordinates: dict[str, NDArray[np.float32]]


class ClusterCommand(TomogramCommand[Particles, Clustered]):
    """Clusters the particles of all tomograms together.

    Parameters
    ----------
    config
        The validated configuration; its class chooses the method.
    write_page
        Writes the web page of the map; None leaves it out.
    """

    def __init__(self, config: ClusteringConfig, write_page: PageWriter | None = None) -> None:
        self.name = config.command
        self._kind = _KINDS[type(config)]
        self._config = config
        self._folder = config.prediction_folder
        self._write_page = write_page

    def _sources(self) -> list[Source]:
        config = self._config
        return find_sources(self._folder, config.clustering_files, config.file_extension)

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """The configuration and every file of every tomogram."""
        return {
            "config_sha256": self._config.sha256(),
            "inputs": [vars(i) for source in self._sources() for i in input_identities(source)],
        }

    def load(self, tomogram: Tomogram) -> Particles:
        """Read the embeddings of all tomograms."""
        particles = read_particles_of(self._sources())
        n, dim = particles.embeddings.shape
        logger.info("%d particles of %d tomograms, %d numbers each.", n, len(particles.counts), dim)
        return particles

    def compute(self, loaded: Particles, progress: Progress) -> Clustered:
        """Find the clusters, and the places in the map if one is wanted."""
        logger.info("Clustering (%s).", self._kind)
        clustering = cluster(loaded.embeddings, self._config)
        coordinates = {}
        if self._config.visualization:
            logger.info("Mapping %d particles by UMAP and PCA.", len(loaded.embeddings))
            coordinates = {
                "UMAP": umap_coordinates(loaded.embeddings),
                "PCA": pca_coordinates(loaded.embeddings, 2),
            }
        return Clustered(loaded, clustering, coordinates)

    def save(self, result: Clustered) -> Saved:
        """Write the original's files, the table over all tomograms and the map."""
        logger.info("Writing.")
        particles, clustering = result.particles, result.clustering
        # Another clustering of the same folder may be writing this very file.
        lock = self._folder / "status" / ".embeddings.lock"
        with locked(lock, what="embeddings.h5", wait=True):
            path = concatenate(self._folder, particles)
            shape = particles.embeddings.shape
            outputs = [Output(FileIdentity.of(path), "embeddings", shape)]
        outputs += write_clusters(self._folder, self._kind, particles, clustering)
        outputs += self._save_table_and_map(result)
        sizes = np.bincount(clustering.clusters)
        summary = {
            "particles": len(clustering.clusters),
            "no_cluster": int(sizes[0]),
            "particles_per_cluster": {str(c): int(n) for c, n in enumerate(sizes) if c and n},
        }
        return Saved(outputs, summary, clustering.warnings)

    def _save_table_and_map(self, result: Clustered) -> list[Output]:
        table = cluster_table(result.particles, result.clustering.clusters)
        base = f"{self._kind}_clusters"
        outputs = [write_cluster_table(self._folder / f"{base}.csv", table)]
        points, page = self._folder / f"{base}_umap_data.csv", self._folder / f"{base}.html"
        if not result.coordinates:
            _remove_outdated(points, page)
            return outputs
        umap = result.coordinates["UMAP"]
        extension = self._config.file_extension
        outputs.append(write_map_data(points, self._kind, table, umap, extension))
        if self._write_page:
            request = MapRequest(
                page, f"Clusters ({self._kind})", result.coordinates, table, "cluster"
            )
            files = self._write_page(request)
            outputs += [Output(FileIdentity.of(file), "map", (len(table),)) for file in files]
        else:
            _remove_outdated(page)
        return outputs


def cluster(embeddings: NDArray[np.float32], config: ClusteringConfig) -> Clustering:
    """Cluster embeddings `(n, dim)` by the method that the class of `config` stands for.

    Raises
    ------
    ConfigurationError
        When there are no particles, or too few for what is asked.
    """
    if not len(embeddings):
        raise ConfigurationError(
            "There are no particles to cluster: no tomogram has any embedding.",
            remedy="Check min_particle_size and max_particle_size of the embeddings, and whether "
            "the instance segmentation found particles.",
        )
    seed = config.clustering_seed
    if isinstance(config, KmeansConfig):
        return kmeans_clusters(embeddings, config.num_clusters, seed=seed)
    if isinstance(config, SpectralConfig):
        return spectral_clusters(
            embeddings, config.num_clusters, estimate=config.estimate_num_clusters, seed=seed
        )
    if isinstance(config, HdbscanConfig):
        return hdbscan_clusters(embeddings, config.min_cluster_size, min_samples=config.min_samples)
    raise TypeError(f"no method for {type(config).__name__}")


def run(
    config: ClusteringConfig, *, overwrite: bool = False, write_page: PageWriter | None = None
) -> RunReport:
    """Cluster all tomograms together; finished and unchanged is not done again.

    Parameters
    ----------
    config
        Of one of the three clustering commands.
    overwrite
        Do it again all the same.
    write_page
        Writes the web page of the map; None leaves it out.

    Returns
    -------
    RunReport
        With the one entry ``all``. The status file is ``all.json``.
    """
    folder = status_folder(config.prediction_folder, config.command)
    loop = TomogramLoop(ClusterCommand(config, write_page), folder, overwrite=overwrite)
    return loop.run([Tomogram(config.prediction_folder, ALL)])


def _remove_outdated(*paths: Path) -> None:
    """A map of earlier clusters must not lie beside the new ones."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(error, path) from error
