"""What denoising, semantic and instance segmentation share: a dense network and its provenance."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config import DenseConfig
from cryosiam_engine.device import (
    ResolvedPrecision,
    apply_precision,
    choose_device,
    resolve_precision,
    set_threads,
)
from cryosiam_engine.errors import CheckpointError, DeviceError
from cryosiam_engine.networks import DenseModel, load_network, prepare_for_inference
from cryosiam_engine.run import Tomogram, TomogramCommand
from cryosiam_engine.sliding_window import SlidingWindow, Tiling
from cryosiam_engine.status import FileIdentity

logger = logging.getLogger(__name__)

Task = Literal["denoising", "semantic", "instance"]
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RunOptions:
    """The command line's choices on how, not what, to compute.

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision
        ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    tiling
        ``reference`` for the original's tiles, ``auto`` for the largest that fit.
    overwrite
        Compute finished tomograms again.
    """

    device: str = "auto"
    precision: str = "auto"
    tiling: Tiling = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to slide over tomograms, and where it came from."""

    window: SlidingWindow
    name: str
    sha256: str
    precision: str


def choose_computation(options: RunOptions) -> tuple[torch.device, ResolvedPrecision]:
    """Set this process up for the device and the precision asked for.

    Raises
    ------
    DeviceError
        When the device or the precision asked for is not to be had.
    """
    set_threads()
    device = choose_device(options.device)
    precision = resolve_precision(options.precision, device)
    apply_precision(precision)
    return device, precision


def load_model(path: Path, task: Task, options: RunOptions, batch_size: int) -> LoadedModel:
    """Load a checkpoint safely and put its network on the device.

    Parameters
    ----------
    path
        The ``.ckpt`` file.
    task
        What the network must have been made for.
    options
        Device, precision and tiling.
    batch_size
        Tiles per batch in ``reference`` tiling; ``auto`` takes one large tile at a time.

    Raises
    ------
    CheckpointError
        When the file cannot be loaded, is of another task, or is no network for whole
        tomograms.
    DeviceError
        When the device or the precision asked for is not to be had.
    """
    device, precision = choose_computation(options)
    checkpoint = load_checkpoint(path)
    network = prepare_for_inference(cast(DenseModel, load_network(checkpoint, task)))
    if network.output_stride != 1:
        raise CheckpointError(
            f"The network in {path} has a max pooling layer: its output has half the "
            "tomogram's resolution and cannot be put together to a tomogram.",
            remedy="Use a checkpoint trained with no_max_pool: True, as the published ones are.",
        )
    layout = torch.channels_last if network.spatial_dims == 2 else torch.channels_last_3d
    network = network.to(device, precision.dtype, memory_format=layout)  # type: ignore[call-overload]
    logger.info(
        "Model %s (sha256 %.12s) on %s in %s.", path.name, checkpoint.sha256, device, precision.name
    )
    window = SlidingWindow(
        network=network,
        device=device,
        dtype=precision.dtype,
        tiling=options.tiling,
        batch_size=batch_size if options.tiling == "reference" else 1,
    )
    return LoadedModel(window, path.name, checkpoint.sha256, precision.name)


class DenseCommand(TomogramCommand[Loaded, Result]):
    """A command that slides a network over tomograms.

    Parameters
    ----------
    config
        The validated configuration.
    model
        The network.
    """

    def __init__(self, config: DenseConfig, model: LoadedModel) -> None:
        self.model = model
        self.folder = config.prediction_folder
        self.model_name = model.name
        self.device = str(model.window.device)
        self.precision = model.precision
        self._config_sha256 = config.sha256()

    def determinants(self, tomogram: Tomogram) -> dict[str, Any]:
        """Configuration, model, how it is computed, and the input file itself."""
        return {
            "config_sha256": self._config_sha256,
            "model_sha256": self.model.sha256,
            "tiling": self.model.window.tiling,
            "precision": self.model.precision,
            "inputs": [vars(FileIdentity.of(path)) for path in self.inputs(tomogram)],
        }

    def inputs(self, tomogram: Tomogram) -> list[Path]:
        """The files that are read for this tomogram; missing ones are reported by `load`."""
        return [tomogram.path] if tomogram.path.exists() else []


def require_finite(is_finite: Tensor, path: Path, precision: str) -> None:
    """Refuse a network output with NaN or infinities: half precision can overflow.

    Parameters
    ----------
    is_finite
        One boolean, gathered on the device while the tiles ran.
    path
        The tomogram.
    precision
        What was computed in.

    Raises
    ------
    DeviceError
        Naming the tomogram and the precision.
    """
    if not is_finite:
        raise DeviceError(
            f"The network's output for {path} is not finite in {precision}.",
            remedy="Use --precision fp32; if that does not help, the checkpoint is damaged.",
        )
