"""The configurations of sub-tomogram embeddings: of instances, and around given centres."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cryosiam_engine.config.base import (
    A_FOLDER,
    TRUE_OR_FALSE,
    Count,
    DenseConfig,
    ExpandedPath,
    Frozen,
    Number,
    key,
    same_folder,
)
from cryosiam_engine.errors import ConfigurationError

_SIZE = "a number of voxels, 0 or more, or null"
_Edge = Annotated[Count, Field(ge=1)]


class EmbeddingConfig(DenseConfig):
    """What the commands that embed sub-tomograms share.

    `patch_size` are the voxels (z, y, x) that the network gets; `dim` is only compared with the
    width of the network's embeddings.
    """

    batch_size: Count = key(
        "hyper_parameters.batch_size", 10, expected="a whole number of 1 or more", ge=1
    )
    patch_size: tuple[_Edge, _Edge, _Edge] = key(
        "parameters.data.patch_size",
        expected="a list of three whole numbers of 1 or more",
        example="[64, 64, 64]",
    )
    contrastive: bool = key("contrastive", False, expected=TRUE_OR_FALSE)
    dim: Count | None = key(
        "parameters.network.dim", None, expected="a whole number of 1 or more", ge=1
    )

    @model_validator(mode="after")
    def _keeps_the_tomograms(self) -> EmbeddingConfig:
        if same_folder(self.prediction_folder, self.data_folder):
            raise ConfigurationError(
                "prediction_folder and data_folder are the same: what is known about the "
                "tomograms made there would be overwritten"
            )
        return self


class InstanceRange(Frozen):
    """The values that the names of instance files carry, as they are written in the YAML."""

    min: int | float = key("min", expected="a number", example="1")
    max: int | float = key("max", expected="a number", example="5")


class EmbeddingsConfig(EmbeddingConfig):
    """The configuration of ``simsiam_embeddings_predict``; sizes and distances are in voxels."""

    command = "simsiam_embeddings_predict"
    input_folders = ("instances_mask_folder",)

    instances_mask_folder: ExpandedPath = key(
        "instances_mask_folder", expected=A_FOLDER, example="results/instances"
    )
    masking_type: Literal[0, 1, 2] = key(
        "masking_type",
        expected="0 (all of the box), 1 (only the convex hull) or 2 (only the instance)",
        example="1",
    )
    expand_labels: Annotated[Number, Field(ge=0)] = key(
        "expand_labels", 0.0, expected="a number of voxels, 0 or more"
    )
    min_particle_size: Annotated[Number, Field(ge=0)] | None = key(
        "min_particle_size", None, expected=_SIZE
    )
    max_particle_size: Annotated[Number, Field(ge=0)] | None = key(
        "max_particle_size", None, expected=_SIZE
    )
    instances: InstanceRange | None = key("instances", None, expected="a section with min and max")

    @property
    def instances_suffix(self) -> str:
        """What stands behind ``_instance_preds`` and ``_instance_regions`` in the files' names."""
        if self.instances is None:
            return ""
        return f"_min-{self.instances.min}_max-{self.instances.max}"

    @model_validator(mode="after")
    def _keeps_the_instances(self) -> EmbeddingsConfig:
        if same_folder(self.prediction_folder, self.instances_mask_folder):
            raise ConfigurationError(
                "prediction_folder and instances_mask_folder are the same: the tables of all "
                "instances would be overwritten by those of the embedded ones"
            )
        low, high = self.min_particle_size, self.max_particle_size
        if low and high and low > high:
            raise ConfigurationError(
                f"min_particle_size ({low:g}) is larger than max_particle_size ({high:g})"
            )
        return self


class CenterEmbeddingsConfig(EmbeddingConfig):
    """The configuration of ``simsiam_embeddings_from_centers_predict``."""

    command = "simsiam_embeddings_from_centers_predict"
    input_files = ("trained_model", "centers_file")

    centers_file: ExpandedPath = key(
        "centers_file", expected="the path of a CSV or STAR file", example="particles.star"
    )
    centers_patch_size: Count = key(
        "centers_patch_size", expected="a whole number of 1 or more", example="64", ge=1
    )
