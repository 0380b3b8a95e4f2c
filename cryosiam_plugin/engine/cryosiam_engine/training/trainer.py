"""One training from start to end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.device import (
    apply_precision,
    choose_device,
    resolve_precision,
    set_threads,
)
from cryosiam_engine.status import Status, status_folder
from cryosiam_engine.training.batches import TrainingData
from cryosiam_engine.training.beginning import begin_anew, check_not_replaced
from cryosiam_engine.training.checkpoints import (
    BEST,
    LAST,
    KeepModels,
    Resumed,
    checkpoint_to_resume,
    models_folder,
)
from cryosiam_engine.training.datasets import training_sets
from cryosiam_engine.training.input_files import check_inputs, write_inputs
from cryosiam_engine.training.lightning_setup import lightning_trainer, quiet_lightning
from cryosiam_engine.training.metrics import MetricsFiles
from cryosiam_engine.training.modules import training_module
from cryosiam_engine.training.reporting import Report
from cryosiam_engine.training.split import Split, kept_split, write_split
from cryosiam_engine.training.starting_network import StartingNetwork, starting_network
from cryosiam_engine.training.stopping import STOP_FILE, StopOnRequest
from cryosiam_engine.training.synchronised_norm import synchronise
from cryosiam_engine.training.tomograms import fresh_split, training_volumes
from cryosiam_engine.training.volumes import TrainingVolume

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingOptions:
    """How, not what, to train.

    Attributes
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision
        ``auto`` or ``fp32`` for float32 (``auto``: with a GPU's TF32 units); ``bf16`` or ``fp16``
        for mixed precision.
    processes
        Of each node; None for ``parameters.gpu_devices`` on GPUs and one on a CPU.
    """

    device: str = "auto"
    precision: str = "auto"
    processes: int | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a training left.

    Attributes
    ----------
    best_model, last_model
        Checkpoints.
    stopped_by
        What asked for the end; empty when the training came to its own.
    n_epochs
        Epochs that are whole.
    best_val_loss
        Smallest loss of a validation; None without one.
    """

    best_model: Path
    last_model: Path
    stopped_by: str
    n_epochs: int
    best_val_loss: float | None


def train(config: TrainConfig, options: TrainingOptions, status: Status) -> TrainingResult:
    """Train a network.

    Parameters
    ----------
    config
        The validated configuration.
    options
        Device, precision and processes.
    status
        Kept up to date in ``log_dir/status``; its end is the caller's to write.

    Raises
    ------
    EngineError
        When the training cannot begin, or cannot write.
    """
    log_dir = config.prediction_folder
    device, precision = training_device(options)
    status.device, status.precision = str(device), precision
    split = _split(config)
    volumes = training_volumes(config, split)
    sets, on_gpu = training_sets(config, *volumes), device.type == "cuda"
    start = starting_network(config)
    resume = _checkpoint_to_resume(config, start, volumes)
    data = TrainingData(config, sets, on_gpu=on_gpu, first_epoch=resume.n_epochs if resume else 0)
    stopping = StopOnRequest(log_dir)
    models = KeepModels(log_dir, stopping, config.schedule.early_stopping)
    report = Report(status_folder(log_dir, config.command), status, models)
    with quiet_lightning():
        # The curves before the checkpoint: a kill between them loses nothing.
        callbacks = [stopping, MetricsFiles(log_dir), models, report]
        trainer = lightning_trainer(config, options.processes, device, precision, callbacks)
        data.check(trainer.world_size)
        if trainer.is_global_zero:
            (log_dir / STOP_FILE).unlink(missing_ok=True)
            if resume is None:
                begin_anew(config)
                write_split(log_dir, split)
                write_inputs(log_dir, [*volumes[0], *volumes[1]])
        module = training_module(config, start)
        if trainer.world_size > 1 and device.type == "cpu":
            synchronise(module)
        trainer.fit(module, data, ckpt_path=resume.path if resume else None, weights_only=True)
    folder, n_epochs = models_folder(log_dir), models.n_epochs
    return TrainingResult(folder / BEST, folder / LAST, stopping.requested, n_epochs, models.best)


def training_device(options: TrainingOptions) -> tuple[torch.device, str]:
    """Choose the device, the arithmetic and the number of threads.

    Returns
    -------
    device : torch.device
    precision : str
        ``fp32``, ``tf32``, ``bf16`` or ``fp16``.

    Raises
    ------
    DeviceError
        When the device is not there, or computes wrong numbers in this precision.
    ConfigurationError
        When it does not know this precision.
    """
    device = choose_device(options.device)
    set_threads()
    precision = resolve_precision(options.precision, device)
    apply_precision(precision)
    return device, precision.name


def _split(config: TrainConfig) -> Split:
    fresh = fresh_split(config)
    begun = config.continue_training and (models_folder(config.prediction_folder) / LAST).is_file()
    return kept_split(config.prediction_folder, fresh) if begun else fresh


def _checkpoint_to_resume(
    config: TrainConfig,
    start: StartingNetwork,
    volumes: tuple[list[TrainingVolume], list[TrainingVolume]],
) -> Resumed | None:
    resume, log_dir = None, config.prediction_folder
    if config.continue_training:
        resume = checkpoint_to_resume(log_dir, start.hyper_parameters)
        if resume is None:
            logger.info("A new training in %s.", log_dir)
        else:
            logger.info("Going on from %s, after epoch %d.", resume.path, resume.n_epochs)
    if resume is None:
        check_not_replaced(config)
    else:
        check_inputs(log_dir, [*volumes[0], *volumes[1]])
    return resume
