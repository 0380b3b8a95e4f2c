"""The prediction commands from start to end: configuration, model, loop, log file."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cryosiam_engine import __version__
from cryosiam_engine.config import (
    CentersConfig,
    DenoiseConfig,
    PostprocessingConfig,
    RunConfig,
    SemanticConfig,
    list_tomograms,
    load_config,
    stem_of,
)
from cryosiam_engine.denoise import DenoiseCommand
from cryosiam_engine.dense import RunOptions, load_model
from cryosiam_engine.errors import EngineError
from cryosiam_engine.logs import log_to_file
from cryosiam_engine.particles import CentersCommand
from cryosiam_engine.run import RunReport, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.semantic import SemanticCommand
from cryosiam_engine.size_filter import SizeFilterCommand
from cryosiam_engine.status import Status, read_status, status_folder, write_status

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Run the command named in `args` and return the process's exit code.

    Raises
    ------
    EngineError
        When the run cannot begin; every unfinished tomogram then has a failed status.
    Interrupted
        When the process was asked to stop.
    """
    config = load_config(args.config_file, args.command)
    with log_to_file(config.prediction_folder, args.command):
        logger.info("cryosiam-engine %s: %s", __version__, " ".join(sys.argv[1:]))
        logger.debug("Configuration %s:\n%s", args.config_file, Path(args.config_file).read_text())
        started = time.monotonic()
        report = _RUNNERS[args.command](config, args)
        _report(report, time.monotonic() - started, config.prediction_folder)
    return report.exit_code


def _denoise(config: DenoiseConfig, args: argparse.Namespace) -> RunReport:
    def make(options: RunOptions) -> DenoiseCommand:
        model = load_model(config.trained_model, "denoising", options, config.batch_size)
        return DenoiseCommand(config, model)

    return _predict(config, args, make)


def _semantic(config: SemanticConfig, args: argparse.Namespace) -> RunReport:
    def make(options: RunOptions) -> SemanticCommand:
        model = load_model(config.trained_model, "semantic", options, config.batch_size)
        return SemanticCommand(config, model)

    return _predict(config, args, make)


def _predict(
    config: DenoiseConfig | SemanticConfig,
    args: argparse.Namespace,
    make: Callable[[RunOptions], TomogramCommand],
) -> RunReport:
    tiling = args.tiling or config.tiling
    options = RunOptions(args.device, args.precision, tiling, args.overwrite)
    tomograms = _tomograms(config, args)
    folder = status_folder(config.prediction_folder, args.command)
    try:
        config.check_paths()
        command = make(options)
    except EngineError as error:
        _mark_all_failed(args.command, tomograms, folder, error)
        raise
    return TomogramLoop(command, folder, overwrite=options.overwrite).run(tomograms)


def _tomograms(config: RunConfig, args: argparse.Namespace) -> list[Tomogram]:
    return [
        Tomogram(path, stem_of(path, config.file_extension))
        for path in list_tomograms(config, args.filename)
    ]


def _postprocess(config: PostprocessingConfig, args: argparse.Namespace) -> RunReport:
    command = SizeFilterCommand(config)
    folder = status_folder(config.prediction_folder, command.name)
    return TomogramLoop(command, folder, overwrite=True).run(_tomograms(config, args))


def _centers(config: CentersConfig, args: argparse.Namespace) -> RunReport:
    command = CentersCommand(config)
    folder = status_folder(config.prediction_folder, command.name)
    report = TomogramLoop(command, folder, overwrite=True).run(_tomograms(config, args))
    for path in command.write_tables(merge=bool(args.filename)):
        logger.info("Wrote %s", path)
    return report


def _mark_all_failed(
    command: str, tomograms: list[Tomogram], folder: Path, error: EngineError
) -> None:
    """Give every unfinished tomogram a failed status when the run could not even begin.

    The host believes nothing but status files: without them it would wait for ever.
    """
    for tomogram in tomograms:
        before = read_status(folder, tomogram.stem)
        if before and before.state == "done":
            continue
        status = Status(command=command, tomogram=tomogram.stem)
        status.fail(error)
        try:
            write_status(folder, status)
        except EngineError as second:
            logger.error("The status of %s could not be written: %s", tomogram.stem, second)
            return


def _report(report: RunReport, seconds: float, folder: Path) -> None:
    logger.info(
        "%d done, %d finished before, %d failed, in %.1f s. Results in %s",
        len(report.done),
        len(report.skipped),
        len(report.failed),
        seconds,
        folder,
    )
    if report.failed:
        logger.warning("Failed, for the reasons above: %s", ", ".join(report.failed))


_RUNNERS: dict[str, Callable[..., RunReport]] = {
    "denoise_predict": _denoise,
    "semantic_predict": _semantic,
    "semantic_postprocessing": _postprocess,
    "semantic_to_centers": _centers,
}
