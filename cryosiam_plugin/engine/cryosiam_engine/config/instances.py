"""The configurations of instance segmentation and of filtering its result by a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cryosiam_engine.config.base import (
    A_FOLDER,
    TRUE_OR_FALSE,
    Count,
    DenseConfig,
    ExpandedPath,
    Extension,
    Number,
    OptionalPath,
    RunConfig,
    key,
    same_folder,
)
from cryosiam_engine.errors import ConfigurationError

_LABELS = "a list of whole numbers"
_FORMAT = "h5, mrc or both"


class InstanceConfig(DenseConfig):
    """The configuration of ``instance_predict``.

    Distances are those that the network predicts: about the distance (voxels) to the particle's
    surface, at most 5.
    """

    command = "instance_predict"
    input_folders = ("mask_folder", "semantic_predictions")

    threshold_foreground: Number = key(
        "parameters.network.threshold_foreground", expected="a number", example="0.5"
    )
    min_center_distance: Number = key(
        "parameters.network.min_center_distance", expected="a number", example="1"
    )
    max_center_distance: Number = key(
        "parameters.network.max_center_distance", expected="a number", example="4"
    )
    distance_type: Literal[0, 1, 2] = key(
        "parameters.network.distance_type",
        expected="0 (predicted), 1 (mean of predicted and Euclidean) or 2 (Euclidean)",
        example="1",
    )
    boundary_bias: Annotated[Number, Field(gt=0, le=1)] = key(
        "parameters.network.boundary_bias",
        expected="a number above 0, and at most 1",
        example="0.8",
    )
    postprocessing: bool = key("parameters.network.postprocessing", True, expected=TRUE_OR_FALSE)
    mask_folder: OptionalPath = key("mask_folder", None, expected=A_FOLDER)
    semantic_predictions: OptionalPath = key("semantic_predictions", None, expected=A_FOLDER)
    semantic_foreground_labels: list[Count] = key(
        "semantic_foreground_labels", [], expected=_LABELS
    )
    save_raw_predictions: bool = key("save_raw_predictions", False, expected=TRUE_OR_FALSE)
    output_format: Literal["h5", "mrc", "both"] = key("output_format", "h5", expected=_FORMAT)

    @property
    def joins_regions(self) -> bool:
        """Whether regions are joined across weak boundaries (the multicut)."""
        return self.postprocessing and self.boundary_bias != 1

    @model_validator(mode="after")
    def _is_consistent(self) -> InstanceConfig:
        if self.semantic_predictions and not self.semantic_foreground_labels:
            raise ConfigurationError(
                "semantic_predictions is given, but semantic_foreground_labels does not say which "
                "of its labels are the foreground"
            )
        for name in ("data_folder", "mask_folder", "semantic_predictions"):
            if same_folder(self.prediction_folder, getattr(self, name)):
                raise ConfigurationError(
                    f"prediction_folder and {name} are the same: files of one name would overwrite "
                    "each other"
                )
        return self


class InstanceFilterConfig(RunConfig):
    """The configuration of ``instance_filter``: which instances lie in a part of the tomogram."""

    command = "instance_filter"
    input_folders = ("prediction_folder", "filtering_mask_folder")
    result_endings = ("_instance_preds.h5", "_instance_preds.mrc")
    follows = "instance_predict"

    filtering_mask_folder: ExpandedPath = key(
        "filtering_mask_folder", expected=A_FOLDER, example="results/semantic"
    )
    filtering_mask_labels: Annotated[list[Count], Field(min_length=1)] = key(
        "filtering_mask_labels", expected=_LABELS, example="[1]"
    )
    filtering_mask_expand_voxels: Annotated[Number, Field(ge=0)] = key(
        "filtering_mask_expand_voxels", 0.0, expected="a number of 0 or more"
    )
    filtering_mask_extension: Extension = key(
        "filtering_mask_extension", ".h5", expected=".h5, .mrc or .rec"
    )
    output_format: Literal["h5", "mrc", "both"] = key("output_format", "h5", expected=_FORMAT)

    @property
    def filtered_folder(self) -> Path:
        """Where the instances that are left go: beside ``prediction_folder``."""
        folder = self.prediction_folder
        if folder.name in ("", ".."):
            folder = folder.resolve()
        return folder.with_name(f"{folder.name}_filtered")
