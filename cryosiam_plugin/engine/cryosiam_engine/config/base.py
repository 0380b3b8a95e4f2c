"""What the configurations of all commands are built from, and what they have in common.

Every field says in its description what is expected of the value, in words that a message to the
user can quote, and in its alias where the key stands in the YAML file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.models.advice import for_missing

A_FOLDER = "the path of a folder"
TRUE_OR_FALSE = "True or False"


_NOT_IN_HASH = {"data_folder", "prediction_folder", "test_files", "trained_model"}
_NOT_IN_HASH |= {"batch_size", "tiling"}


def key(path: str, default: Any = ..., *, expected: str, example: str = "", **limits: Any) -> Any:
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
    """Expand ``~``. A dollar sign is left alone: a folder may be named ``$HOME``."""
    if not isinstance(value, str):
        return value
    expanded = os.path.expanduser(value)  # noqa: PTH111 - Path refuses the ~ of nobody
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


class Frozen(BaseModel):
    """A part of a configuration: its values cannot be changed."""

    # By name too, so that code can make a configuration without a YAML file.
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Intensity(Frozen):
    """How grey values are scaled: [min, max] to [0, 1] with clipping, then (x - mean) / std.

    A `mean` or `std` of None is measured in each tomogram.
    """

    min: Number = key("min", 0.0, expected="a number")
    max: Number = key("max", 1.0, expected="a number")
    mean: Number | None = key("mean", 0.0, expected="a number or null")
    std: Number | None = key("std", 1.0, expected="a number of 0 or more, or null", ge=0)


class RunConfig(Frozen):
    """What every command has: where the tomograms are and where the results go."""

    command: ClassVar[str]
    input_files: ClassVar[tuple[str, ...]] = ()
    input_folders: ClassVar[tuple[str, ...]] = ()
    #: Where the tomograms are those of an earlier result: how the names of its files end ("": with
    #: file_extension).
    result_endings: ClassVar[tuple[str, ...]] = ()
    #: The command that makes that earlier result.
    follows: ClassVar[str] = ""

    data_folder: ExpandedPath | None = key("data_folder", None, expected=A_FOLDER)
    prediction_folder: ExpandedPath = key(
        "prediction_folder", expected=A_FOLDER, example="results/denoised"
    )
    file_extension: Extension = key("file_extension", ".mrc", expected="a file ending as .mrc")
    test_files: list[Annotated[str, Field(min_length=1)]] | None = key(
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
        for name in (*self.input_folders, *self.input_files):
            if values.get(name):
                values[name] = str(Path(values[name]).absolute())
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
                    remedy=(for_missing(path) if kind == "file" else "")
                    or f"Correct {key} in the configuration; relative paths start at {Path.cwd()}.",
                )


class DenseConfig(RunConfig):
    """What the commands that run a network over whole tomograms share."""

    input_files: ClassVar[tuple[str, ...]] = ("trained_model",)

    data_folder: ExpandedPath = key("data_folder", expected=A_FOLDER, example="tomograms")
    trained_model: ExpandedPath = key(
        "trained_model",
        expected="the path of a model (.ckpt or .safetensors)",
        example="models/my_model.ckpt",
    )
    batch_size: Count = key(
        "hyper_parameters.batch_size", 1, expected="a whole number of 1 or more", ge=1
    )
    intensity: Intensity = key("parameters.data", Intensity(), expected="a section")
    tiling: Literal["auto", "reference"] = key("tiling", "auto", expected="auto or reference")


def same_folder(one: Path | None, other: Path | None) -> bool:
    """Whether both are given and lead to the same place."""
    return one is not None and other is not None and one.resolve() == other.resolve()
