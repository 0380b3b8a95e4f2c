"""The commands that take a configuration, from start to end: configuration, run, log file."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from importlib import import_module
from pathlib import Path

from cryosiam_engine import __version__
from cryosiam_engine.config import load_config
from cryosiam_engine.logs import log_to_file
from cryosiam_engine.provenance.keeping import recorded
from cryosiam_engine.run import RunReport

logger = logging.getLogger(__name__)

#: Where each command is run: module and function, imported when it is needed.
_RUNNERS = {
    "denoise_predict": "prediction_runs:denoise",
    "semantic_predict": "prediction_runs:semantic",
    "instance_predict": "prediction_runs:instances",
    "simsiam_embeddings_predict": "prediction_runs:embeddings",
    "simsiam_embeddings_from_centers_predict": "prediction_runs:center_embeddings",
    "semantic_postprocessing": "follow_up_runs:postprocess",
    "semantic_to_centers": "follow_up_runs:centers",
    "instance_filter": "follow_up_runs:filter_instances",
    "simsiam_embeddings_kmeans_clustering": "follow_up_runs:cluster",
    "simsiam_embeddings_spectral_clustering": "follow_up_runs:cluster",
    "simsiam_embeddings_hdbscan_clustering": "follow_up_runs:cluster",
    "simsiam_visualize_embeddings": "follow_up_runs:visualize",
    "simsiam_embeddings_map": "follow_up_runs:embedding_map",
    "semantic_filter_ground_truth": "training.ground_truth:run",
    "semantic_train_preprocess": "training.distance_maps:run",
    "semantic_train_create_patches": "training.patch_files:run",
}


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
        module, function = _RUNNERS[args.command].split(":")
        runner = getattr(import_module(f"cryosiam_engine.{module}"), function)
        with recorded(config, args.config_file):
            report: RunReport = runner(config, args)
        _report(report, time.monotonic() - started, config.prediction_folder)
    return report.exit_code


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
