"""Lightning's part of a training: devices, processes, and no advice for programmers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.training.processes import check_gpus, process_environment

#: What Lightning calls the arithmetic that the engine has chosen.
_PRECISIONS = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def lightning_trainer(
    config: TrainConfig,
    processes: int | None,
    device: torch.device,
    precision: str,
    callbacks: list[Callback],
) -> Trainer:
    """Make the loop over epochs and steps; everything that is written is the callbacks' task.

    Parameters
    ----------
    config
        Of the training.
    processes
        Of each node; None for ``parameters.gpu_devices`` on GPUs and one on a CPU.
    device, precision
        As the engine has chosen them.
    callbacks
        Called in this order.

    Raises
    ------
    ConfigurationError, DeviceError
        When so many processes cannot train together here.
    """
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
def quiet_lightning() -> Iterator[None]:
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
