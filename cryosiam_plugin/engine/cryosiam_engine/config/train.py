"""The configuration of the training itself: ``semantic_train``, and ``train`` for every task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cryosiam_engine.config.base import (
    A_FOLDER,
    TRUE_OR_FALSE,
    Count,
    ExpandedPath,
    Frozen,
    Number,
    OptionalPath,
    key,
)
from cryosiam_engine.config.training import TrainingConfig, TrainingPatches

TrainingTask = Literal["semantic", "denoising", "instance", "embedding", "backbone"]

_POSITIVE = "a whole number of 1 or more"
_RANGE = "null or a list of two numbers, the lower one first"
_Positive = Annotated[Count, Field(ge=1)]
_Size = Annotated[Number, Field(ge=0)]


def _range(value: object) -> object:
    """``False`` switches off as null does; a list must rise."""
    if value is False:
        return None
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] > value[1]:
        raise ValueError
    return value


def _per_axis(value: object) -> object:
    """One number stands for all three axes."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if value is False else (value,) * 3 if is_number else value


def _number_of(value: object) -> object:
    """Configurations of the predictions list the GPUs, those of trainings count them."""
    return len(value) if isinstance(value, list | tuple) else value


_Range = Annotated[tuple[_Size, _Size] | None, BeforeValidator(_range)]
_PositiveRange = Annotated[
    tuple[Annotated[Number, Field(gt=0)], Annotated[Number, Field(gt=0)]] | None,
    BeforeValidator(_range),
]
_AnyRange = Annotated[tuple[Number, Number] | None, BeforeValidator(_range)]
_Angles = Annotated[tuple[_Size, _Size, _Size] | None, BeforeValidator(_per_axis)]


class DrawnPatches(TrainingPatches):
    """``parameters.data``: how patches are cut or drawn, and their grey values.

    Without a patch folder `patches_per_epoch` patches are drawn from the tomograms, with
    `class_balance` as many around voxels of a rare class as of a frequent one. At most
    `validation_patches` patches of a regular grid are used for validation. Two views of a place,
    from which a backbone learns, share at least `min_view_overlap` of each edge.
    """

    patches_per_epoch: _Positive = key("patches_per_epoch", 400, expected=_POSITIVE)
    validation_patches: _Positive = key("validation_patches", 100, expected=_POSITIVE)
    class_balance: bool = key("class_balance", True, expected=TRUE_OR_FALSE)
    min_view_overlap: Annotated[Number, Field(gt=0, le=1)] = key(
        "min_view_overlap", 0.5, expected="a number above 0, at most 1"
    )


class Transforms(Frozen):
    """``parameters.transforms``: how training patches are varied; null leaves one out.

    Sigmas are in voxels, `rotate` is the largest angle about each axis in radians, `zoom` a range
    of factors. `elastic` is the range of the strength of bending: the largest random displacement
    of a voxel before these are smoothed over 5 to 10 voxels, so that 100 bends by about half a
    voxel.
    """

    low_pass_sigma_range: _Range = key("low_pass_sigma_range", None, expected=_RANGE)
    high_pass_sigma_range: _Range = key("high_pass_sigma_range", None, expected=_RANGE)
    high_pass_sigma2_range: _Range = key("high_pass_sigma2_range", None, expected=_RANGE)
    noise_sigma_range: _Range = key("noise_sigma_range", None, expected=_RANGE)
    combine_transforms: bool = key("combine_transforms", False, expected=TRUE_OR_FALSE)
    use_noisy_input: bool = key("use_noisy_input", False, expected=TRUE_OR_FALSE)
    scale_intensity_factors: _AnyRange = key("scale_intensity_factors", None, expected=_RANGE)
    elastic: _Range = key("elastic", None, expected=_RANGE)
    zoom: _PositiveRange = key("zoom", None, expected=_RANGE)
    rotate: _Angles = key("rotate", None, expected="null, an angle or three angles in radians")
    flip: bool = key("flip", False, expected=TRUE_OR_FALSE)


class TrainedNetwork(Frozen):
    """``parameters.network``: the heads, what they learn, and which part is trained.

    Frozen parts keep the statistics of their normalisation with `freeze_normalisation`; without it
    they go on to follow the training data, as in CryoSiam.
    """

    in_channels: Literal[1] = key("in_channels", 1, expected="1")
    spatial_dims: Literal[3] = key("spatial_dims", 3, expected="3 (only 3D networks are trained)")
    out_channels: _Positive = key("out_channels", 1, expected=_POSITIVE)
    n_output_channels: Literal[1] = key("n_output_channels", 1, expected="1")
    dense_dim: _Positive | None = key("dense_dim", None, expected=_POSITIVE)
    filters: tuple[_Positive, _Positive] = key(
        "filters", (32, 64), expected="a list of two whole numbers"
    )
    kernel_size: Literal[1, 3, 5, 7] = key("kernel_size", 3, expected="1, 3, 5 or 7")
    padding: Count | None = key("padding", None, expected="half of kernel_size, rounded down")
    distance_prediction: bool = key("distance_prediction", False, expected=TRUE_OR_FALSE)
    use_dice_loss: bool = key("use_dice_loss", False, expected=TRUE_OR_FALSE)
    loss_type: Literal["l1", "l2", "combined"] = key(
        "loss_type", "l2", expected="l1, l2 or combined"
    )
    unfreeze_decoder: bool = key("unfreeze_decoder", False, expected=TRUE_OR_FALSE)
    unfreeze_backbone: bool = key("unfreeze_backbone", False, expected=TRUE_OR_FALSE)
    freeze_normalisation: bool = key("freeze_normalisation", True, expected=TRUE_OR_FALSE)


class BackboneNetwork(Frozen):
    """``backbone``: the network to begin with where there is no ``pretrained_model``."""

    block_type: Literal["basic", "bottleneck"] = key(
        "block_type", "bottleneck", expected="basic or bottleneck"
    )
    num_layers: tuple[_Positive, _Positive, _Positive, _Positive] = key(
        "num_layers", (1, 1, 1, 1), expected="a list of four whole numbers"
    )
    num_filters: tuple[_Positive, _Positive, _Positive, _Positive] = key(
        "num_filters", (8, 16, 32, 64), expected="a list of four whole numbers"
    )
    no_max_pool: Literal[True] = key("no_max_pool", True, expected="True")
    fpn_channels: _Positive = key("fpn_channels", 16, expected=_POSITIVE)
    dim: _Positive = key("dim", 64, expected=_POSITIVE)
    pred_dim: _Positive = key("pred_dim", 32, expected=_POSITIVE)
    dense_dim: _Positive = key("dense_dim", 16, expected=_POSITIVE)
    dense_pred_dim: _Positive = key("dense_pred_dim", 16, expected=_POSITIVE)


class Schedule(Frozen):
    """``hyper_parameters``: batches, optimiser and length of the training.

    `batch_size` is that of each process. `momentum` is that of sgd, the same in every step; without
    it, it falls from 0.95 to 0.85 while the learning rate rises and comes back with it, as always
    in CryoSiam. `early_stopping` ends the training after so many
    validations without a better one; null never does.
    """

    val_interval: _Positive = key("val_interval", 1, expected=_POSITIVE)
    batch_size: _Positive = key("batch_size", 2, expected=_POSITIVE)
    optimizer: Literal["sgd", "adam", "adamw"] = key(
        "optimizer", "adamw", expected="sgd, adam or adamw"
    )
    lr: Annotated[Number, Field(gt=0)] = key("lr", 0.001, expected="a number above 0")
    momentum: Annotated[Number, Field(ge=0, lt=1)] | None = key(
        "momentum", None, expected="null or a number of 0 or more, below 1"
    )
    weight_decay: _Size = key("weight_decay", 1e-5, expected="a number of 0 or more")
    max_epochs: _Positive = key("max_epochs", expected=_POSITIVE, example="100")
    early_stopping: _Positive | None = key(
        "early_stopping", None, expected="null or a whole number of 1 or more"
    )
    num_workers: Annotated[Count, Field(ge=0)] | None = key(
        "num_workers", None, expected="null or a whole number of 0 or more"
    )


class TrainConfig(TrainingConfig):
    """The configuration of ``train``; everything it writes goes to ``log_dir``.

    `data_folder` holds the input. What is learned is in `labels_folder` (semantic: classes;
    instance and embedding: instances) or, for denoising, in `gt_folder`; a backbone learns from
    the tomograms alone.
    """

    command = "train"
    input_files = ("pretrained_model",)
    input_folders = ("data_folder", "labels_folder", "gt_folder", "noisy_data_folder")
    listed_folder = "data_folder"

    task: TrainingTask = key(
        "task", "semantic", expected="semantic, denoising, instance, embedding or backbone"
    )
    prediction_folder: ExpandedPath = key("log_dir", expected=A_FOLDER, example="training")
    data_folder: ExpandedPath = key("data_folder", expected=A_FOLDER, example="tomograms")
    labels_folder: OptionalPath = key("labels_folder", None, expected=A_FOLDER)  # type: ignore[assignment]
    gt_folder: OptionalPath = key("gt_folder", None, expected=A_FOLDER)
    noisy_data_folder: OptionalPath = key("noisy_data_folder", None, expected=A_FOLDER)
    patches_folder: OptionalPath = key("patches_folder", None, expected=A_FOLDER)
    patch_source: Literal["auto", "folder", "tomograms"] = key(
        "patch_source", "auto", expected="auto, folder or tomograms"
    )
    pretrained_model: OptionalPath = key(
        "pretrained_model", None, expected="null or the path of a model (.ckpt or .safetensors)"
    )
    validation_ratio: Annotated[Number, Field(gt=0, lt=1)] = key(
        "validation_ratio", 0.1, expected="a number above 0 and below 1"
    )
    continue_training: bool = key("continue_training", False, expected=TRUE_OR_FALSE)
    seed: Annotated[Count, Field(ge=0)] = key("seed", 0, expected="a whole number of 0 or more")
    gpu_devices: Annotated[_Positive, BeforeValidator(_number_of)] = key(
        "parameters.gpu_devices", 1, expected=_POSITIVE
    )
    nodes: _Positive = key("parameters.nodes", 1, expected=_POSITIVE)
    patches: DrawnPatches = key("parameters.data", expected="a section")
    transforms: Transforms = key("parameters.transforms", Transforms(), expected="a section")
    network: TrainedNetwork = key("parameters.network", TrainedNetwork(), expected="a section")
    backbone: BackboneNetwork = key("backbone", BackboneNetwork(), expected="a section")
    schedule: Schedule = key("hyper_parameters", expected="a section")
    masking_type: Literal[0, 1, 2] = key(
        "masking_type", 0, expected="0 (all of the box), 1 (convex hull) or 2 (instance)"
    )
    min_particle_size: _Size | None = key(
        "min_particle_size", None, expected="a number of voxels, 0 or more, or null"
    )
    max_particle_size: _Size | None = key(
        "max_particle_size", None, expected="a number of voxels, 0 or more, or null"
    )


class SemanticTrainConfig(TrainConfig):
    """The configuration of ``semantic_train``."""

    command = "semantic_train"

    task: Literal["semantic"] = key("task", "semantic", expected="semantic")
