"""What each command needs to know from its configuration, checked and with readable names.

Every field says in its description what is expected of the value, in words that a message to the
user can quote, and in its alias where the key stands in the YAML file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cryosiam_engine.errors import ConfigurationError

A_FOLDER = "the path of a folder"
TRUE_OR_FALSE = "True or False"


_NOT_IN_HASH = {"data_folder", "prediction_folder", "test_files", "trained_model"}
_NOT_IN_HASH |= {"batch_size", "tiling"}


def _key(path: str, default: Any = ..., *, expected: str, example: str = "", **limits: Any) -> Any:
    """Describe a field: where its key stands, what is expected, an example for the remedy."""
    return Field(
        default,
        validation_alias=AliasPath(*path.split(".")),
        description=expected,
        examples=[example] if example else None,
        **limits,
    )


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError
    return value


def _expanded(value: Any) -> Any:
    """Expand ``~`` and variables; a variable that is not set would name a folder '$SCRATCH'."""
    if not isinstance(value, str):
        return value
    expanded = os.path.expanduser(os.path.expandvars(value))  # noqa: PTH111
    unset = re.search(r"\$\w+|\$\{[^}]*\}", expanded)
    if unset:
        raise ConfigurationError(f"the environment variable {unset.group()} is not set")
    if not expanded.strip():
        raise ValueError
    return expanded


def _with_dot(value: Any) -> Any:
    return f".{value}" if isinstance(value, str) and value and value[0] != "." else value


Number = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_not_bool)]
ExpandedPath = Annotated[Path, BeforeValidator(_expanded)]
OptionalPath = Annotated[
    Path | None, BeforeValidator(lambda value: None if value == "" else _expanded(value))
]
Extension = Annotated[str, BeforeValidator(_with_dot), Field(pattern=r"^\.[^/\\\s]+$")]


class _Frozen(BaseModel):
    # By name too, so that code can make a configuration without a YAML file.
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Intensity(_Frozen):
    """How grey values are scaled: [min, max] to [0, 1] with clipping, then (x - mean) / std.

    A `mean` or `std` of None is measured in each tomogram.
    """

    min: Number = _key("min", 0.0, expected="a number")
    max: Number = _key("max", 1.0, expected="a number")
    mean: Number | None = _key("mean", 0.0, expected="a number or null")
    std: Number | None = _key("std", 1.0, expected="a number of 0 or more, or null", ge=0)


class RunConfig(_Frozen):
    """What every command has: where the tomograms are and where the results go."""

    command: ClassVar[str]
    input_files: ClassVar[tuple[str, ...]] = ()
    input_folders: ClassVar[tuple[str, ...]] = ()

    data_folder: ExpandedPath | None = _key("data_folder", None, expected=A_FOLDER)
    prediction_folder: ExpandedPath = _key(
        "prediction_folder", expected=A_FOLDER, example="results/denoised"
    )
    file_extension: Extension = _key("file_extension", ".mrc", expected="a file ending as .mrc")
    test_files: list[Annotated[str, Field(min_length=1)]] | None = _key(
        "test_files", None, expected="null or a list of file names (numbers in quotes)"
    )

    def sha256(self) -> str:
        """Hash what determines the result for one tomogram.

        Which tomograms are processed, where they are, where the results go and the batch size do
        not count, so adding a tomogram to the list does not make finished ones invalid. Neither
        do model and tiling: the file's content and what the command line chose do, elsewhere.

        Returns
        -------
        str
            64 hexadecimal digits.
        """
        values = self.model_dump(mode="json", exclude=_NOT_IN_HASH)
        if values.get("mask_folder"):
            values["mask_folder"] = str(Path(values["mask_folder"]).absolute())
        canonical = json.dumps([self.command, values], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def check_paths(self) -> None:
        """Check that the files and folders to read from exist on this machine.

        Apart from parsing, because a configuration may be parsed where the data is not mounted.

        Raises
        ------
        ConfigurationError
            Naming the first key whose file or folder is missing.
        """
        for key in (*self.input_files, *self.input_folders):
            path: Path | None = getattr(self, key)
            kind = "file" if key in self.input_files else "folder"
            if path is not None and not (path.is_file() if kind == "file" else path.is_dir()):
                raise ConfigurationError(
                    f"{key}: no such {kind}: {path}.",
                    remedy=f"Correct {key} in the configuration; relative paths start at "
                    f"{Path.cwd()}.",
                )


class DenseConfig(RunConfig):
    """What the commands that run a network over whole tomograms share."""

    input_files = ("trained_model",)

    data_folder: ExpandedPath = _key("data_folder", expected=A_FOLDER, example="tomograms")
    trained_model: ExpandedPath = _key(
        "trained_model", expected="the path of a model (.ckpt)", example="models/my_model.ckpt"
    )
    batch_size: Count = _key(
        "hyper_parameters.batch_size", 1, expected="a whole number of 1 or more", ge=1
    )
    intensity: Intensity = _key("parameters.data", Intensity(), expected="a section")
    tiling: Literal["auto", "reference"] = _key("tiling", "auto", expected="auto or reference")


def _same_folder(one: Path | None, other: Path | None) -> bool:
    return one is not None and other is not None and one.resolve() == other.resolve()


class DenoiseConfig(DenseConfig):
    """The configuration of ``denoise_predict``."""

    command = "denoise_predict"

    scale_prediction: bool = _key("scale_prediction", True, expected=TRUE_OR_FALSE)
    save_raw_predictions: bool = _key("save_raw_predictions", False, expected=TRUE_OR_FALSE)

    @model_validator(mode="after")
    def _keeps_the_input(self) -> DenoiseConfig:
        if _same_folder(self.prediction_folder, self.data_folder):
            raise ConfigurationError(
                "prediction_folder and data_folder are the same: the denoised tomograms would "
                "overwrite the raw ones"
            )
        return self


class SemanticConfig(DenseConfig):
    """The configuration of ``semantic_predict``, for the lamella and for classes."""

    command = "semantic_predict"
    input_folders = ("mask_folder",)

    threshold: Annotated[Number, Field(ge=0, le=1)] = _key(
        "parameters.network.threshold", expected="a number between 0 and 1", example="0.9"
    )
    mask_folder: OptionalPath = _key("mask_folder", None, expected=A_FOLDER)
    postprocessing: bool = _key("parameters.network.postprocessing", False, expected=TRUE_OR_FALSE)
    hull_3d: bool = _key("parameters.network.3d_postprocessing", False, expected=TRUE_OR_FALSE)
    # For another command; here because labels that were filtered with other sizes are not current.
    postprocessing_sizes: list[Count] | None = _key(
        "parameters.network.postprocessing_sizes",
        None,
        expected="a list of whole numbers, one for each class from the background on (-1: keep)",
    )
    save_internal_files: bool = _key("save_internal_files", False, expected=TRUE_OR_FALSE)
    save_original_file_extension: bool = _key(
        "save_original_file_extension", False, expected=TRUE_OR_FALSE
    )
    save_confidence: bool = _key("save_confidence", False, expected=TRUE_OR_FALSE)
    output_format: Literal["h5", "mrc", "both"] = _key(
        "output_format", "h5", expected="h5, mrc or both"
    )

    @model_validator(mode="after")
    def _keeps_the_input(self) -> SemanticConfig:
        writes_mrc = self.save_original_file_extension or self.output_format != "h5"
        if writes_mrc and _same_folder(self.prediction_folder, self.data_folder):
            raise ConfigurationError(
                "prediction_folder and data_folder are the same: labels written as MRC would "
                "overwrite the tomograms or be taken for some"
            )
        if _same_folder(self.prediction_folder, self.mask_folder):
            raise ConfigurationError(
                "prediction_folder and mask_folder are the same: the labels would overwrite the "
                "masks"
            )
        return self


class PostprocessingConfig(RunConfig):
    """The configuration of ``semantic_postprocessing``: one size per class, -1 to leave it."""

    command = "semantic_postprocessing"
    input_folders = ("prediction_folder",)

    postprocessing_sizes: list[Annotated[Count, Field(ge=-1)]] = _key(
        "parameters.network.postprocessing_sizes",
        expected="a list of whole numbers, one for each class from the background on (-1: keep)",
        example="[-1, 5000, -1]",
    )


class CentersConfig(RunConfig):
    """The configuration of ``semantic_to_centers``; `out_channels` counts the background."""

    command = "semantic_to_centers"
    input_folders = ("prediction_folder",)

    out_channels: Count | None = _key(
        "parameters.network.out_channels", None, expected="a whole number of 1 or more", ge=1
    )
    min_voxels: Annotated[Number, Field(ge=0)] | list[Annotated[Number, Field(ge=0)]] = _key(
        "parameters.network.min_voxels",
        100.0,
        expected="a number of 0 or more, or a list of them, one for each class from 1 on",
    )
