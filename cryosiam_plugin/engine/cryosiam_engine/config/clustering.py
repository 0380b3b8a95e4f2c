"""The configurations of clustering particles by their embeddings, and of looking at these."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cryosiam_engine.config.base import (
    A_FOLDER,
    TRUE_OR_FALSE,
    Count,
    OptionalPath,
    key,
)
from cryosiam_engine.config.embedding_map import PicturesConfig

#: Distances between embeddings that can be chosen for a map.
Distance = Literal[
    "euclidean",
    "cosine",
    "correlation",
    "manhattan",
    "chebyshev",
    "canberra",
    "braycurtis",
]

_FILES = "null or a list of file names (numbers in quotes)"
_AT_LEAST = "a whole number of {} or more"

FileNames = list[Annotated[str, Field(min_length=1)]]


class ClusteringConfig(PicturesConfig):
    """What the three ways of clustering share: whose embeddings, and the seed."""

    input_folders = ("prediction_folder",)

    clustering_files: FileNames | None = key("clustering_files", None, expected=_FILES)
    clustering_seed: Count = key(
        "clustering_seed", 0, expected="a whole number between 0 and 4294967295", ge=0, lt=2**32
    )
    visualization: bool


class KmeansConfig(ClusteringConfig):
    """The configuration of ``simsiam_embeddings_kmeans_clustering``."""

    command = "simsiam_embeddings_kmeans_clustering"

    num_clusters: Count = key(
        "clustering_kmeans.num_clusters", expected=_AT_LEAST.format(1), example="10", ge=1
    )
    visualization: bool = key("clustering_kmeans.visualization", False, expected=TRUE_OR_FALSE)


class SpectralConfig(ClusteringConfig):
    """The configuration of ``simsiam_embeddings_spectral_clustering``.

    With `estimate_num_clusters`, `num_clusters` is how many the estimate looks at.
    """

    command = "simsiam_embeddings_spectral_clustering"

    num_clusters: Count = key(
        "clustering_spectral.num_clusters", expected=_AT_LEAST.format(2), example="10", ge=2
    )
    estimate_num_clusters: bool = key(
        "clustering_spectral.estimate_num_clusters", False, expected=TRUE_OR_FALSE
    )
    visualization: bool = key("clustering_spectral.visualization", False, expected=TRUE_OR_FALSE)


class HdbscanConfig(ClusteringConfig):
    """The configuration of ``simsiam_embeddings_hdbscan_clustering``.

    A `min_samples` of None is `min_cluster_size`.
    """

    command = "simsiam_embeddings_hdbscan_clustering"

    min_cluster_size: Count = key(
        "clustering_hdbscan.min_cluster_size", 20, expected=_AT_LEAST.format(2), ge=2
    )
    min_samples: Annotated[Count, Field(ge=1)] | None = key(
        "clustering_hdbscan.min_samples", None, expected=f"null or {_AT_LEAST.format(1)}"
    )
    visualization: bool = key("clustering_hdbscan.visualization", False, expected=TRUE_OR_FALSE)


class VisualizationConfig(PicturesConfig):
    """The configuration of ``simsiam_visualize_embeddings``.

    A `pca_components` of None asks for UMAP.
    """

    command = "simsiam_visualize_embeddings"
    input_folders = ("prediction_folder",)

    visualization_files: FileNames | None = key("visualization_files", None, expected=_FILES)
    visualization_folder: OptionalPath = key(
        "visualization.prediction_folder", None, expected=A_FOLDER
    )
    distance: Distance = key(
        "visualization.distance",
        "euclidean",
        expected="euclidean, cosine, correlation, manhattan, chebyshev, canberra or braycurtis",
    )
    pca_components: Annotated[Count, Field(ge=2)] | None = key(
        "visualization.pca_components", None, expected=f"null or {_AT_LEAST.format(2)}"
    )
    visualization_suffix: Annotated[str, Field(pattern=r"^[^/]+\.(csv|star)$")] = key(
        "visualization.visualization_suffix",
        "instance_regions.csv",
        expected="the end of a file name, .csv or .star",
    )
    visualize_umap: bool = key("visualization.visualize_umap", True, expected=TRUE_OR_FALSE)
    umap_3d: bool = key("visualization.3d_umap", False, expected=TRUE_OR_FALSE)

    @property
    def page_folder(self) -> Path:
        """Where the pages go: ``visualization`` in `prediction_folder` unless it was said."""
        return self.visualization_folder or self.prediction_folder / "visualization"
