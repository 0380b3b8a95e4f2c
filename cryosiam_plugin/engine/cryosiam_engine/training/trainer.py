"""One training from start to end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

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
    checkpoint_to_resume,
    models_folder,
)
from cryosiam_engine.training.datasets import training_sets
from cryosiam_engine.training.metrics import MetricsFiles
from cryosiam_engine.training.modules import training_module
from cryosiam_engine.training.processes import check_gpus, process_environment
from cryosiam_engine.training.reporting import Report
from cryosiam_engine.training.split import Split, kept_split, write_split
from cryosiam_engine.training.starting_network import StartingNetwork, starting_network
from cryosiam_engine.training.stopping import STOP_FILE, StopOnRequest
from cryosiam_engine.training.synchronised_norm import synchronise
from cryosiam_engine.training.tomograms import fresh_split, training_volumes

logger = logging.getLogger(__name__)

#: What Lightning calls the arithmetic that the engine has chosen.
_PRECISIONS = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


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
    data = TrainingData(
        config,
        training_sets(config, *training_volumes(config, split)),
        on_gpu=device.type == "cuda",
    )
    start = starting_network(config)
    resume = _checkpoint_to_resume(config, start)
    stopping = StopOnRequest(log_dir)
    models = KeepModels(log_dir, stopping, config.schedule.early_stopping)
    report = Report(status_folder(log_dir, config.command), status, models)
    with _quiet_lightning():
        callbacks = [stopping, models, MetricsFiles(log_dir), report]
        trainer = _trainer(config, options.processes, device, precision, callbacks)
        data.check(trainer.world_size)
        if trainer.is_global_zero:
            (log_dir / STOP_FILE).unlink(missing_ok=True)
            if resume is None:
                begin_anew(config)
                write_split(log_dir, split)
        module = training_module(config, start)
        if trainer.world_size > 1 and device.type == "cpu":
            synchronise(module)
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
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


def is_first_process() -> bool:
    """Whether this is the process that writes, of those that train together."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def _split(config: TrainConfig) -> Split:
    fresh = fresh_split(config)
    begun = config.continue_training and (models_folder(config.prediction_folder) / LAST).is_file()
    return kept_split(config.prediction_folder, fresh) if begun else fresh


def _checkpoint_to_resume(config: TrainConfig, start: StartingNetwork) -> Path | None:
    resume, log_dir = None, config.prediction_folder
    if config.continue_training:
        resume = checkpoint_to_resume(log_dir, start.hyper_parameters)
        logger.info("Going on from %s." if resume else "A new training in %s.", resume or log_dir)
    if resume is None:
        check_not_replaced(config)
    return resume


def _trainer(
    config: TrainConfig,
    processes: int | None,
    device: torch.device,
    precision: str,
    callbacks: list[Callback],
) -> Trainer:
    on_gpu = device.type == "cuda"
    n_processes = processes or (config.gpu_devices if on_gpu else 1)
    several = n_processes * config.nodes > 1
    environment = process_environment(n_processes, config.nodes)
    if on_gpu:
        check_gpus(n_processes)
    one_gpu = [device.index or 0]
    return Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=one_gpu if on_gpu and n_processes == 1 else n_processes,
        num_nodes=config.nodes,
        strategy=_together("nccl" if on_gpu else "gloo") if several else "auto",
        plugins=environment,
        precision=_PRECISIONS[precision],  # type: ignore[arg-type]
        sync_batchnorm=several and on_gpu,
        max_epochs=config.schedule.max_epochs,
        check_val_every_n_epoch=config.schedule.val_interval,
        callbacks=callbacks,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        # Everything below is done by the callbacks.
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=config.prediction_folder,
    )


def _together(backend: str) -> DDPStrategy:
    # Statistics of normalisations are the same everywhere already.
    return DDPStrategy(process_group_backend=backend, broadcast_buffers=False)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep advice for programmers out of a user's log."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*lr_scheduler\.step\(\).*")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
