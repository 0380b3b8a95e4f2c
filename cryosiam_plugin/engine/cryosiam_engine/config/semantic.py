"""The configurations of semantic segmentation and of what follows it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cryosiam_engine.config.base import (
    A_FOLDER,
    TRUE_OR_FALSE,
    Count,
    DenseConfig,
    Number,
    OptionalPath,
    RunConfig,
    key,
    same_folder,
)
from cryosiam_engine.errors import ConfigurationError

#: How the names of files with predicted labels end.
PREDICTED_LABELS = ("_preds.h5", "_preds.mrc", "")


class SemanticConfig(DenseConfig):
    """The configuration of ``semantic_predict``, for the lamella and for classes."""

    command = "semantic_predict"
    input_folders = ("mask_folder",)

    threshold: Annotated[Number, Field(ge=0, le=1)] = key(
        "parameters.network.threshold", expected="a number between 0 and 1", example="0.9"
    )
    mask_folder: OptionalPath = key("mask_folder", None, expected=A_FOLDER)
    postprocessing: bool = key("parameters.network.postprocessing", False, expected=TRUE_OR_FALSE)
    hull_3d: bool = key("parameters.network.3d_postprocessing", False, expected=TRUE_OR_FALSE)
    # For another command; here because labels that were filtered with other sizes are not current.
    postprocessing_sizes: list[Count] | None = key(
        "parameters.network.postprocessing_sizes",
        None,
        expected="a list of whole numbers, one for each class from the background on (-1: keep)",
    )
    save_internal_files: bool = key("save_internal_files", False, expected=TRUE_OR_FALSE)
    save_original_file_extension: bool = key(
        "save_original_file_extension", False, expected=TRUE_OR_FALSE
    )
    save_confidence: bool = key("save_confidence", False, expected=TRUE_OR_FALSE)
    output_format: Literal["h5", "mrc", "both"] = key(
        "output_format", "h5", expected="h5, mrc or both"
    )

    @model_validator(mode="after")
    def _keeps_the_input(self) -> SemanticConfig:
        writes_mrc = self.save_original_file_extension or self.output_format != "h5"
        if writes_mrc and same_folder(self.prediction_folder, self.data_folder):
            raise ConfigurationError(
                "prediction_folder and data_folder are the same: labels written as MRC would "
                "overwrite the tomograms or be taken for some"
            )
        if same_folder(self.prediction_folder, self.mask_folder):
            raise ConfigurationError(
                "prediction_folder and mask_folder are the same: the labels would overwrite the "
                "masks"
            )
        return self


class PostprocessingConfig(RunConfig):
    """The configuration of ``semantic_postprocessing``: one size per class, -1 to leave it."""

    command = "semantic_postprocessing"
    input_folders = ("prediction_folder",)
    result_endings = PREDICTED_LABELS
    follows = "semantic_predict"

    postprocessing_sizes: list[Annotated[Count, Field(ge=-1)]] = key(
        "parameters.network.postprocessing_sizes",
        expected="a list of whole numbers, one for each class from the background on (-1: keep)",
        example="[-1, 5000, -1]",
    )


class CentersConfig(RunConfig):
    """The configuration of ``semantic_to_centers``; `out_channels` counts the background."""

    command = "semantic_to_centers"
    input_folders = ("prediction_folder",)
    result_endings = PREDICTED_LABELS
    follows = "semantic_predict"

    out_channels: Count | None = key(
        "parameters.network.out_channels", None, expected="a whole number of 1 or more", ge=1
    )
    min_voxels: Annotated[Number, Field(ge=0)] | list[Annotated[Number, Field(ge=0)]] = key(
        "parameters.network.min_voxels",
        100.0,
        expected="a number of 0 or more, or a list of them, one for each class from 1 on",
    )
