"""``semantic_train`` and ``train``: from the configuration to a model and its status."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import ExitStack
from pathlib import Path

from cryosiam_engine import __version__
from cryosiam_engine.config.loading import load_config
from cryosiam_engine.config.train import TrainConfig
from cryosiam_engine.errors import ConfigurationError, EngineError
from cryosiam_engine.locks import locked
from cryosiam_engine.logs import log_to_file
from cryosiam_engine.origin import process_origin
from cryosiam_engine.provenance.keeping import recorded
from cryosiam_engine.run import RunReport
from cryosiam_engine.signals import interruptible
from cryosiam_engine.status import FileIdentity, Output, Status, status_folder, write_status
from cryosiam_engine.training.dry_run import dry_run
from cryosiam_engine.training.processes import is_first_process
from cryosiam_engine.training.tomograms import uses_patch_folder
from cryosiam_engine.training.trainer import (
    TrainingOptions,
    TrainingResult,
    train,
)

logger = logging.getLogger(__name__)

#: Stands where other commands have a tomogram's name.
TRAINING = "training"


def main(args: argparse.Namespace) -> int:
    """Run the command from its configuration file.

    Parameters
    ----------
    args
        Of the command line: ``command``, ``config_file``, and as for :func:`run`.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    EngineError, Interrupted
        As :func:`run`.
    """
    config = load_config(args.config_file, args.command)
    if not isinstance(config, TrainConfig):
        raise TypeError(f"{args.command} is no training")
    with log_to_file(config.prediction_folder, args.command):
        logger.info("cryosiam-engine %s: %s", __version__, " ".join(sys.argv[1:]))
        text = Path(args.config_file).read_text(encoding="utf-8")
        logger.debug("Configuration %s:\n%s", args.config_file, text)
        return run(config, args).exit_code


def run(config: TrainConfig, args: argparse.Namespace) -> RunReport:
    """Run the command.

    Parameters
    ----------
    config
        The validated configuration.
    args
        Of the command line: ``device``, ``precision``, ``processes`` (or None), ``dry_run`` and,
        for ``train``, ``task`` (or None).

    Returns
    -------
    RunReport
        ``training`` done or, after a dry run, skipped.

    Raises
    ------
    EngineError
        When the training cannot begin or go on; the status says so too.
    """
    task = getattr(args, "task", None)
    if task:
        config = config.model_copy(update={"task": task})
    options = TrainingOptions(args.device, args.precision, getattr(args, "processes", None))
    config.check_paths()
    check_task(config)
    if getattr(args, "dry_run", False):
        dry_run(config, options)
        return RunReport(skipped=[TRAINING])
    folder = config.prediction_folder
    with ExitStack() as held:
        held.enter_context(recorded(config, getattr(args, "config_file", None)))
        status = Status(command=config.command, tomogram=TRAINING)
        status.determinants = {"config_sha256": config.sha256()}
        # Until the training itself listens, a request to stop is an interruption.
        held.enter_context(interruptible())
        if is_first_process():
            held.enter_context(locked(folder / ".training.lock", what=f"The training in {folder}"))
        try:
            result = train(config, options, status)
        except BaseException as error:
            status.fail(error)
            _write(config, status)
            raise
        _finish(config, status, result)
    return RunReport(done=[TRAINING])


def check_task(config: TrainConfig) -> None:
    """Refuse a configuration that lacks what its task needs.

    Raises
    ------
    ConfigurationError
        Naming the key.
    """
    _check_what_is_learned(config)
    fitting = config.network.kernel_size // 2
    if config.network.padding not in (None, fitting):
        raise ConfigurationError(
            f"parameters.network.padding is {config.network.padding}: heads with kernel_size "
            f"{config.network.kernel_size} would change the size of their input.",
            remedy=f"Set padding to {fitting}, or leave it out.",
        )
    if config.transforms.use_noisy_input and config.noisy_data_folder is None:
        raise ConfigurationError(
            "use_noisy_input is True, but noisy_data_folder is missing.",
            remedy="Set noisy_data_folder, or use_noisy_input to False.",
        )
    if config.patches.mean is None or config.patches.std is None:
        raise ConfigurationError(
            "parameters.data: mean and std must be numbers for a training.",
            remedy="Set mean: 0 and std: 1.",
        )
    embedded = {"embedding": "particles", "backbone": "places"}.get(config.task)
    if embedded and config.schedule.batch_size < 2:
        raise ConfigurationError(
            f"Embeddings are learned from batches of at least two {embedded}.",
            remedy="Set hyper_parameters.batch_size to 8 or more.",
        )


def _check_what_is_learned(config: TrainConfig) -> None:
    if config.task == "denoising":
        varied = config.transforms
        if not (config.gt_folder or varied.noise_sigma_range or varied.use_noisy_input):
            raise ConfigurationError(
                "A denoising network needs pairs of noisy and clean tomograms: gt_folder is "
                "missing.",
                remedy="Set gt_folder to the clean tomograms, of the same names as those in "
                "data_folder; or set noise_sigma_range, to add noise to clean tomograms.",
            )
    elif (
        config.task != "backbone" and config.labels_folder is None and not uses_patch_folder(config)
    ):
        kind = "classes" if config.task == "semantic" else "numbered particles"
        raise ConfigurationError(
            f"labels_folder is missing: the labels ({kind}) that shall be learned.",
            remedy="Set labels_folder to a folder with labels of the same names as the "
            "tomograms in data_folder.",
        )


def _finish(config: TrainConfig, status: Status, result: TrainingResult) -> None:
    status.state = "done"
    status.origin = process_origin()  # by now the GPU is known
    status.outputs = [
        Output(FileIdentity.of(path), kind, ())
        for path, kind in ((result.best_model, "model"), (result.last_model, "last_model"))
        if path.is_file()
    ]
    status.summary |= {"stopped_by": result.stopped_by, "epochs": result.n_epochs}
    if result.stopped_by:
        status.warnings.append(
            f"Stopped by {result.stopped_by} after {result.n_epochs} whole epochs of "
            f"{config.schedule.max_epochs}; the best model so far was kept."
        )
    _write(config, status)
    if is_first_process():
        best = "" if result.best_val_loss is None else f" (loss {result.best_val_loss:.4g})"
        logger.info("The best model%s: %s", best, result.best_model)


def _write(config: TrainConfig, status: Status) -> None:
    if not is_first_process():
        return
    try:
        write_status(status_folder(Path(config.prediction_folder), config.command), status)
    except EngineError as error:
        logger.error("The status of the training could not be written: %s", error)
