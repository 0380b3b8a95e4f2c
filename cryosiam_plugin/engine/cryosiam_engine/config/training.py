"""The configurations of what prepares the training of a semantic segmentation network.

One YAML file serves all of these commands, and the training itself. ``prediction_folder`` is in
each of them the folder that this command fills, which has a key of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from cryosiam_engine.config.base import (
    A_FOLDER,
    TRUE_OR_FALSE,
    Count,
    ExpandedPath,
    Frozen,
    Intensity,
    Number,
    OptionalPath,
    RunConfig,
    key,
    same_folder,
)
from cryosiam_engine.errors import ConfigurationError

_NAMES = "null or a list of file names (numbers in quotes)"
_Name = Annotated[str, Field(min_length=1)]
_Edge = Annotated[Count, Field(ge=1)]
_Label = Annotated[Count, Field(ge=1, le=2**16 - 1)]


class TrainingPatches(Intensity):
    """The section ``parameters.data``: how patches are cut, and their grey values.

    `patch_size` is in voxels (z, y, x), `patch_overlap` the part of a patch that the next one has
    too.
    """

    patch_size: tuple[_Edge, _Edge, _Edge] = key(
        "patch_size",
        expected="a list of three whole numbers of 1 or more",
        example="[128, 128, 128]",
    )
    patch_overlap: Annotated[Number, Field(ge=0, lt=1)] = key(
        "patch_overlap", 0.0, expected="a number of 0 or more, below 1"
    )
    remove_only_background: bool = key("remove_only_background", False, expected=TRUE_OR_FALSE)


class TrainingNetwork(Frozen):
    """What the commands before the training must know of ``parameters.network``.

    `out_channels` counts the background; 1 is a binary segmentation.
    """

    out_channels: Count = key(
        "out_channels", expected="a whole number of 1 or more", example="2", ge=1
    )
    distance_prediction: bool = key("distance_prediction", False, expected=TRUE_OR_FALSE)


class TrainingConfig(RunConfig):
    """What the commands that read training labels share.

    A tomogram, its labels and its noisy version have the same file name, in three folders.
    """

    input_folders: ClassVar[tuple[str, ...]] = ("labels_folder",)
    #: The folder whose files are listed where no names are given.
    listed_folder: ClassVar[str] = "labels_folder"

    labels_folder: ExpandedPath = key("labels_folder", expected=A_FOLDER, example="labels")
    train_files: list[_Name] | None = key("train_files", None, expected=_NAMES)
    val_files: list[_Name] | None = key("val_files", None, expected=_NAMES)

    def training_files(self, filenames: Sequence[str] = ()) -> list[Path]:
        """The files to process, by their path in the folder that is listed.

        They are `filenames`, else ``train_files`` and ``val_files`` where the first are given,
        else all files of the folder with ``file_extension``, sorted.

        Parameters
        ----------
        filenames
            From the command line; with or without the file extension.

        Returns
        -------
        list of Path
            At least one, every one once. A missing file stays in it, to fail alone later.

        Raises
        ------
        ConfigurationError
            When there is none.
        """
        # Here, because it imports the configurations.
        from cryosiam_engine.processing.files import volume_files

        folder: Path = getattr(self, self.listed_folder)
        names = list(filenames)
        if not names and self.train_files:
            names = [*self.train_files, *(self.val_files or [])]
        if names:
            extension = self.file_extension
            full = (n if n.endswith(extension) else f"{n}{extension}" for n in names)
            return list(dict.fromkeys(folder / name for name in full))
        paths = volume_files(folder, (self.file_extension,))
        if not paths:
            raise ConfigurationError(
                f"{self.listed_folder} has no file that ends with {self.file_extension}: {folder}.",
                remedy=f"Check {self.listed_folder} and file_extension.",
            )
        return paths


class GroundTruthConfig(TrainingConfig):
    """The configuration of ``semantic_filter_ground_truth``; it fills ``labels_folder``."""

    command = "semantic_filter_ground_truth"
    input_folders = ("labels_folder_for_filtering",)
    listed_folder = "labels_folder_for_filtering"

    prediction_folder: ExpandedPath = key("labels_folder", expected=A_FOLDER, example="labels")
    labels_folder_for_filtering: ExpandedPath = key(
        "labels_folder_for_filtering", expected=A_FOLDER, example="all_labels"
    )
    selected_labels: Annotated[list[_Label], Field(min_length=1)] = key(
        "selected_labels", expected="a list of whole numbers of 1 or more", example="[3]"
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> GroundTruthConfig:
        if len(set(self.selected_labels)) < len(self.selected_labels):
            raise ConfigurationError(f"selected_labels names one twice: {self.selected_labels}")
        if same_folder(self.labels_folder, self.labels_folder_for_filtering):
            raise ConfigurationError(
                "labels_folder and labels_folder_for_filtering are the same: the labels would be "
                "overwritten"
            )
        return self


class DistanceMapsConfig(TrainingConfig):
    """The configuration of ``semantic_train_preprocess``; it fills ``temp_dir``."""

    command = "semantic_train_preprocess"

    prediction_folder: ExpandedPath = key("temp_dir", expected=A_FOLDER, example="training/temp")
    network: TrainingNetwork = key("parameters.network", expected="a section")


class PatchesConfig(TrainingConfig):
    """The configuration of ``semantic_train_create_patches``; it fills ``patches_folder``."""

    command = "semantic_train_create_patches"
    input_folders = ("data_folder", "labels_folder", "noisy_data_folder")

    data_folder: ExpandedPath = key("data_folder", expected=A_FOLDER, example="tomograms")
    prediction_folder: ExpandedPath = key(
        "patches_folder", expected=A_FOLDER, example="training/patches"
    )
    noisy_data_folder: OptionalPath = key("noisy_data_folder", None, expected=A_FOLDER)
    temp_dir: OptionalPath = key("temp_dir", None, expected=A_FOLDER)
    patches: TrainingPatches = key("parameters.data", expected="a section")
    distance_prediction: bool = key(
        "parameters.network.distance_prediction", False, expected=TRUE_OR_FALSE
    )

    @model_validator(mode="after")
    def _has_distances(self) -> PatchesConfig:
        if self.distance_prediction and self.temp_dir is None:
            raise ConfigurationError(
                "distance_prediction is True, but temp_dir, where the distance maps are, is missing"
            )
        return self
