"""One batch instead of a training: whether it will work, how long it takes, how much memory."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch.utils.data import default_collate

from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.files import write_text
from cryosiam_engine.training.batches import reading_workers
from cryosiam_engine.training.datasets import TrainingSets, training_sets
from cryosiam_engine.training.label_checks import look_through_labels
from cryosiam_engine.training.label_report import report_labels
from cryosiam_engine.training.modules import Training, training_module
from cryosiam_engine.training.optimisers import optimiser_and_schedule
from cryosiam_engine.training.peak_memory import PeakMemory
from cryosiam_engine.training.starting_network import starting_network
from cryosiam_engine.training.tomograms import (
    fresh_split,
    training_volumes,
    uses_patch_folder,
)
from cryosiam_engine.training.trainer import TrainingOptions, training_device
from cryosiam_engine.training.volumes import TrainingVolume

logger = logging.getLogger(__name__)

DRY_RUN_FILE = "dry_run.json"
#: The first step is slower than the others; these are measured.
_WARM_UP, _MEASURED = 1, 2
_GIB = 2**30
#: What layers compute in where the precision is a mixed one.
_MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class DryRun:
    """What one batch tells.

    Attributes
    ----------
    training_tomograms, validation_tomograms
        How they are divided.
    device, precision
        What the training will compute on and in.
    steps_per_epoch, validation_steps
        Batches.
    seconds_per_step
        With the samples of a batch, which take one process `seconds_reading` to make; workers make
        them while the GPU computes.
    hours
        Of the whole training, validations included, on this device in one process.
    memory_gib
        At the peak: on a GPU what PyTorch takes of it, on a CPU by how much this process grows
        when it begins to learn.
    parameters, learning_parameters
        Numbers of the network, and those of them that learn.
    voxels_per_class
        By tomogram.
    warnings
        What the user should look at first.
    """

    training_tomograms: list[str]
    validation_tomograms: list[str]
    device: str
    precision: str
    steps_per_epoch: int = 0
    validation_steps: int = 0
    seconds_per_step: float = 0.0
    seconds_reading: float = 0.0
    hours: float = 0.0
    memory_gib: float = 0.0
    parameters: int = 0
    learning_parameters: int = 0
    loss: float = 0.0
    voxels_per_class: dict[str, dict[int, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def dry_run(config: TrainConfig, options: TrainingOptions) -> DryRun:
    """Read all labels and learn from one batch; nothing is kept but ``log_dir/dry_run.json``.

    Parameters
    ----------
    config
        The validated configuration.
    options
        Device and precision.

    Raises
    ------
    EngineError
        When the training could not begin.
    """
    device, precision = training_device(options)
    training, validation = training_volumes(config, fresh_split(config))
    report = DryRun(_stems(training), _stems(validation), str(device), precision)
    places = not uses_patch_folder(config)
    found = look_through_labels(config, training, validation, with_places=places)
    labels = report_labels(config, training, validation, found)
    report.voxels_per_class, report.warnings = labels.voxels, labels.warnings
    for warning in report.warnings:
        logger.warning("%s", warning)
    sets = training_sets(config, training, validation, found)
    module = training_module(config, starting_network(config)).to(device)
    _measure(config, sets, module, device, report)
    write_text(config.prediction_folder / DRY_RUN_FILE, json.dumps(asdict(report), indent=1) + "\n")
    logger.info(
        "%d steps per epoch of %.2f s (a batch is read in %.2f s): about %s (h:min:s) for %d "
        "epochs, %.1f GiB of memory. %d of %d parameters learn.",
        report.steps_per_epoch,
        report.seconds_per_step,
        report.seconds_reading,
        timedelta(seconds=round(3600 * report.hours)),
        config.schedule.max_epochs,
        report.memory_gib,
        report.learning_parameters,
        report.parameters,
    )
    return report


def _stems(volumes: Sequence[TrainingVolume]) -> list[str]:
    return list(dict.fromkeys(volume.stem for volume in volumes))


def _measure(
    config: TrainConfig,
    sets: TrainingSets,
    module: Training,
    device: torch.device,
    report: DryRun,
) -> None:
    schedule = config.schedule
    n_training, n_validation = len(sets.training), len(sets.validation)  # type: ignore[arg-type]
    size = min(schedule.batch_size, n_training)
    report.parameters = sum(p.numel() for p in module.parameters())
    learning = [p for p in module.parameters() if p.requires_grad]
    report.learning_parameters = sum(p.numel() for p in learning)
    with PeakMemory(device) as memory:
        reading, computing = _seconds_of_steps(config, sets, module, size, device, report)
    report.memory_gib = round(memory.n_bytes / _GIB, 2)
    n_workers = reading_workers(schedule, on_gpu=device.type == "cuda")
    step = _step_seconds(reading, computing, n_workers)
    report.seconds_reading, report.seconds_per_step = round(reading, 4), round(step, 4)
    report.steps_per_epoch = n_training // size
    report.validation_steps = -(-n_validation // size)
    # A validation step has no way back, which is two thirds of the work.
    judging = _step_seconds(reading, computing / 3, n_workers) * report.validation_steps
    each = report.steps_per_epoch * step + judging / schedule.val_interval
    report.hours = round(each * schedule.max_epochs / 3600, 3)


def _step_seconds(reading: float, computing: float, n_workers: int) -> float:
    """Seconds of a step; workers, each with a batch of its own, read while another is learned."""
    return max(reading / n_workers, computing) if n_workers else reading + computing


def _seconds_of_steps(
    config: TrainConfig,
    sets: TrainingSets,
    module: Training,
    size: int,
    device: torch.device,
    report: DryRun,
) -> tuple[float, float]:
    """Seconds that it takes to read a batch and to learn from it."""
    learning = [p for p in module.parameters() if p.requires_grad]
    optimiser = optimiser_and_schedule(learning, config.schedule, 100)["optimizer"]
    reading = computing = 0.0
    for step in range(_WARM_UP + _MEASURED):
        started = time.perf_counter()
        batch = default_collate([sets.training[(step, index)] for index in range(size)])
        read = time.perf_counter()
        report.loss = _learn(module, optimiser, batch, device, report.precision)
        if step >= _WARM_UP:
            reading += (read - started) / _MEASURED
            computing += (time.perf_counter() - read) / _MEASURED
    return reading, computing


def _learn(
    module: Training, optimiser: Any, batch: Any, device: torch.device, precision: str
) -> float:
    on_device = {name: tensor.to(device) for name, tensor in batch.items()}
    optimiser.zero_grad()
    mixed = _MIXED.get(precision)
    with torch.autocast(device.type, mixed, enabled=mixed is not None):
        parts, _ = module.losses(on_device)
    loss = torch.stack([*parts.values()]).sum()
    loss.backward()
    optimiser.step()
    return float(loss.detach())
