"""From the hyper-parameters of a checkpoint to the description of its networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from cryosiam_engine.errors import CheckpointError
from cryosiam_engine.networks.description import (
    BACKBONE_PREFIX,
    HEADS,
    MODEL_PREFIX,
    BackboneDescription,
    BlockType,
    EncoderDescription,
    HeadDescription,
    ModelDescription,
    Task,
)
from cryosiam_engine.networks.hyper_parameters import Section

if TYPE_CHECKING:
    from cryosiam_engine.checkpoint import Checkpoint


def describe(checkpoint: Checkpoint) -> ModelDescription:
    """Recognise the task of a checkpoint and read the description of its networks.

    Parameters
    ----------
    checkpoint
        The loaded file: its path, state dict and hyper-parameters.

    Raises
    ------
    CheckpointError
        When the file is no CryoSiam model, or as :func:`read_description`.
    """
    task = _recognise_task(checkpoint)
    description = read_description(task, checkpoint.hyper_parameters, checkpoint.path)
    if task == "semantic":
        return replace(description, head=_semantic_head(checkpoint, description.head))
    return description


def read_description(
    task: Task, hyper_parameters: Mapping[str, Any], path: Path
) -> ModelDescription:
    """Read the description of a model of known task.

    Parameters
    ----------
    task
        Decides what must be there.
    hyper_parameters
        With ``config``, ``backbone_config`` or both, as published files hold them.
    path
        The file, for error messages.

    Raises
    ------
    CheckpointError
        When a value is missing (named in the message) or impossible.
    """
    root = Section.root(path, hyper_parameters)
    contrastive = task == "embedding" and root.has(
        "backbone_config", "parameters", "network", "block_type"
    )
    owner = "backbone_config" if task in HEADS or contrastive else "config"
    network = root.inside(owner, "parameters", "network")
    backbone = _encoder(network) if task == "embedding" else _backbone(network)
    if task in HEADS:
        owner = "config"
    patch_size: tuple[int, ...] = ()
    if task in HEADS or root.has(owner, "parameters", "data", "patch_size"):
        patch_size = _patch_size(root.inside(owner, "parameters", "data"), backbone.spatial_dims)
    head = _head(task, root.inside("config", "parameters", "network")) if task in HEADS else None
    return ModelDescription(task, backbone, head, patch_size, contrastive)


def _recognise_task(checkpoint: Checkpoint) -> Task:
    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in checkpoint.state_dict)

    if has(BACKBONE_PREFIX):
        for task, heads in HEADS.items():
            if has(f"{MODEL_PREFIX}{next(iter(heads.values()))}."):
                return task
    elif has(f"{MODEL_PREFIX}decoder."):
        return "dense_simsiam"
    elif has(f"{MODEL_PREFIX}encoder.fc.0."):
        return "embedding"
    raise CheckpointError(
        f"{checkpoint.path} is not a CryoSiam model: none of the known parts "
        "(backbone with heads, pretrained backbone, embedding encoder) is among its weights.",
        remedy="Set trained_model to a published CryoSiam checkpoint or to one that "
        "semantic_train wrote.",
    )


def _encoder(network: Section) -> EncoderDescription:
    return EncoderDescription(
        block_type=network.word("block_type", get_args(BlockType)),
        spatial_dims=network.whole("spatial_dims", allowed=(2, 3)),
        in_channels=network.whole("in_channels"),
        num_layers=network.wholes("num_layers", 4),
        num_filters=network.wholes("num_filters", 4),
        no_max_pool=network.flag("no_max_pool"),
        dim=network.whole("dim"),
        pred_dim=network.whole("pred_dim"),
    )


def _backbone(network: Section) -> BackboneDescription:
    # The original builds the bidirectional decoder for every word but 'fpn', and that one knows
    # no later convolution.
    is_fpn = not network.has("decoder_type") or network.get("decoder_type") == "fpn"
    return BackboneDescription(
        **vars(_encoder(network)),
        fpn_channels=network.whole("fpn_channels"),
        dense_dim=network.whole("dense_dim"),
        dense_pred_dim=network.whole("dense_pred_dim"),
        include_levels_loss=network.flag("include_levels_loss", default=False),
        add_fpn_later_conv=is_fpn and network.flag("add_fpn_later_conv", default=False),
        decoder_type="fpn" if is_fpn else "bifpn",
        fpn_layers=network.whole("fpn_layers") if network.has("fpn_layers") else 2,
    )


def _patch_size(data: Section, spatial_dims: int) -> tuple[int, ...]:
    edges = data.get("patch_size")
    if spatial_dims == 2 and isinstance(edges, list | tuple) and len(edges) == 2:
        return (1, *data.wholes("patch_size", 2))
    return data.wholes("patch_size", 3)


def _head(task: Task, network: Section) -> HeadDescription:
    out_key = {"denoising": "n_output_channels", "semantic": "out_channels"}.get(task)
    out_channels = network.whole(out_key) if out_key else 1
    if task == "semantic" and not network.has("filters"):
        return HeadDescription((32, 64), 3, out_channels)
    kernel_size = network.whole("kernel_size")
    if kernel_size % 2 == 0 or network.get("padding") != kernel_size // 2:
        raise CheckpointError(
            f"The head of {network.path} changes the size of its input: kernel_size "
            f"{kernel_size} with padding {network.get('padding')!r}.",
            remedy="Use a checkpoint with an odd kernel_size and padding = kernel_size // 2.",
        )
    first, second = network.wholes("filters", 2)
    return HeadDescription((first, second), kernel_size, out_channels)


def _semantic_head(checkpoint: Checkpoint, noted: HeadDescription | None) -> HeadDescription | None:
    # The original builds every semantic head with 32 and 64 filters of edge 3, whatever the
    # file's hyper-parameters say, so the weights themselves are asked.
    head = f"{MODEL_PREFIX}{HEADS['semantic']['logits']}"
    first = checkpoint.state_dict.get(f"{head}.0.weight")
    second = checkpoint.state_dict.get(f"{head}.3.weight")
    if noted is None or first is None or second is None or min(first.ndim, second.ndim) < 3:
        return noted
    filters = (int(first.shape[0]), int(second.shape[0]))
    return replace(noted, filters=filters, kernel_size=int(first.shape[-1]))
