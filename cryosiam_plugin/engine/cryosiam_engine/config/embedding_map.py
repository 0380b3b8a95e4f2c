"""The configuration of the interactive map of embeddings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cryosiam_engine.config.base import Count, RunConfig, key

_Edge = Annotated[Count, Field(ge=1)]
PatchSize = tuple[_Edge, _Edge, _Edge]


class PicturesConfig(RunConfig):
    """What the commands share that show particles: without `data_folder` there are no pictures."""

    picture_size: PatchSize = key(
        "parameters.data.patch_size",
        (64, 64, 64),
        expected="three whole numbers of 1 or more (voxels along z, y, x)",
    )


class EmbeddingMapConfig(PicturesConfig):
    """The configuration of ``simsiam_embeddings_map``."""

    command = "simsiam_embeddings_map"
    input_folders = ("prediction_folder",)

    clustering_files: list[Annotated[str, Field(min_length=1)]] | None = key(
        "clustering_files", None, expected="null or a list of file names (numbers in quotes)"
    )
