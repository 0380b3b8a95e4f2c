"""The files of a clustering: the original's, and one table over all tomograms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryosiam_engine.clustering.regions_table import write_star, write_table
from cryosiam_engine.clustering.representatives import distances_to_centers, ranks
from cryosiam_engine.clustering.result import Clustering
from cryosiam_engine.clustering.sources import Particles
from cryosiam_engine.hdf5 import write_datasets
from cryosiam_engine.status import FileIdentity, Output

_FROM_REGIONS = ("centroid-0", "centroid-1", "centroid-2", "area", "score", "semantic_class")


def numbers_in_files(kind: str, clusters: NDArray[np.int32]) -> NDArray[np.int32]:
    """Clusters as the original's files number them: k-means from 0, spectral from 1.

    HDBSCAN, which the original has not, counts from 1, and 0 is no cluster.
    """
    return clusters - 1 if kind == "kmeans" else clusters


def cluster_table(particles: Particles, clusters: NDArray[np.int32]) -> pd.DataFrame:
    """One row per particle of all tomograms.

    Returns
    -------
    pandas.DataFrame
        `row` (from 0, in embeddings.h5), `tomo`, `label`, `cluster` (from 1 with every method;
        0 is no cluster), `distance_to_center` (empty in no cluster), `rank` (1 is the nearest to
        its cluster's centre, 0 in no cluster), and where the regions have them `centroid-0`,
        `centroid-1`, `centroid-2` (voxel indices z, y, x), `area` (voxels), `score` and
        `semantic_class`.
    """
    distances = distances_to_centers(particles.embeddings, clusters)
    table = pd.DataFrame(
        {
            "row": np.arange(len(clusters)),
            "tomo": np.repeat([source.stem for source in particles.sources], particles.counts),
            "label": _joined(particles, "label").astype(np.int64),
            "cluster": clusters,
            "distance_to_center": distances,
            "rank": ranks(clusters, distances),
        }
    )
    for column in _FROM_REGIONS:
        if any(column in regions for regions in particles.regions):
            table[column] = _joined(particles, column)
    return table


def _joined(particles: Particles, column: str) -> NDArray:
    """A column over all tomograms; tomograms without it, or without particles, do no harm."""
    parts = [
        regions[column].to_numpy() if column in regions else np.full(len(regions), np.nan)
        for regions in particles.regions
        if len(regions)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def write_clusters(
    folder: Path, kind: str, particles: Particles, clustering: Clustering
) -> Iterator[Output]:
    """Write the original's files, under the original's names.

    They are ``<kind>_clusters.h5`` and per tomogram ``<stem>_clusters_<kind>.h5`` and
    ``<stem>_instance_regions_<kind>_clustered.csv`` and ``.star``. The STAR file has the name of
    its own method, where the original gives spectral clusters the name of k-means.

    Parameters
    ----------
    folder
        Where they go.
    kind
        ``kmeans``, ``spectral`` or ``hdbscan``.
    particles, clustering
        What was clustered, and the result.

    Yields
    ------
    Output
        Each file.

    Raises
    ------
    OutputError
        When one cannot be written.
    """
    numbers = numbers_in_files(kind, clustering.clusters)
    everything: dict[str, NDArray] = {"clusters": numbers}
    if clustering.centers is not None:
        everything["centers"] = clustering.centers
    path = folder / f"{kind}_clusters.h5"
    write_datasets(path, everything)
    yield _output(path, "clusters", len(numbers))
    parts = np.split(numbers, np.cumsum(particles.counts)[:-1])
    for source, regions, part in zip(particles.sources, particles.regions, parts, strict=True):
        path = folder / f"{source.stem}_clusters_{kind}.h5"
        write_datasets(path, {"predictions": part})
        yield _output(path, "clusters", len(part))
        table = regions.assign(semantic_class=part)
        name = f"{source.stem}_instance_regions_{kind}_clustered"
        yield _output(write_table(folder / f"{name}.csv", table), "particles", len(part))
        yield _output(write_star(folder / f"{name}.star", table), "particles", len(part))


def write_map_data(
    path: Path,
    kind: str,
    table: pd.DataFrame,
    coordinates: NDArray[np.float32],
    file_extension: str,
) -> Output:
    """Write the points of the UMAP as the original does: `class`, `x`, `y`, `labels`.

    All particles are in it; the original maps the first 20,000.
    """
    names = table["tomo"].astype(str) + file_extension + "_" + table["label"].astype(str)
    points = pd.DataFrame(
        {
            "class": numbers_in_files(kind, table["cluster"].to_numpy()),
            "x": coordinates[:, 0],
            "y": coordinates[:, 1],
            "labels": names,
        }
    )
    return _output(write_table(path, points), "particles", len(points))


def write_cluster_table(path: Path, table: pd.DataFrame) -> Output:
    """Write the table over all tomograms."""
    return _output(write_table(path, table), "particles", len(table))


def _output(path: Path, kind: str, rows: int) -> Output:
    return Output(FileIdentity.of(path), kind, (rows,))
