"""How each command that runs a network goes over its tomograms."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from cryosiam_engine.config import (
    CenterEmbeddingsConfig,
    DenoiseConfig,
    DenseConfig,
    EmbeddingsConfig,
    InstanceConfig,
    RunConfig,
    SemanticConfig,
    list_tomograms,
    stem_of,
)
from cryosiam_engine.dense import RunOptions, load_model
from cryosiam_engine.errors import EngineError
from cryosiam_engine.run import RunReport, Tomogram, TomogramCommand, TomogramLoop
from cryosiam_engine.status import Status, read_status, status_folder, write_status

logger = logging.getLogger(__name__)


def denoise(config: DenoiseConfig, args: argparse.Namespace) -> RunReport:
    """Run ``denoise_predict``."""
    from cryosiam_engine.denoise import DenoiseCommand

    def make(options: RunOptions) -> DenoiseCommand:
        model = load_model(config.trained_model, "denoising", options, config.batch_size)
        return DenoiseCommand(config, model)

    return _predict(config, args, make)


def semantic(config: SemanticConfig, args: argparse.Namespace) -> RunReport:
    """Run ``semantic_predict``."""
    from cryosiam_engine.semantic import SemanticCommand

    def make(options: RunOptions) -> SemanticCommand:
        model = load_model(config.trained_model, "semantic", options, config.batch_size)
        return SemanticCommand(config, model)

    return _predict(config, args, make)


def instances(config: InstanceConfig, args: argparse.Namespace) -> RunReport:
    """Run ``instance_predict``."""
    from cryosiam_engine.instances.command import InstanceCommand

    def make(options: RunOptions) -> InstanceCommand:
        model = load_model(config.trained_model, "instance", options, config.batch_size)
        return InstanceCommand(config, model, reuse_maps=not options.overwrite)

    return _predict(config, args, make)


def embeddings(config: EmbeddingsConfig, args: argparse.Namespace) -> RunReport:
    """Run ``simsiam_embeddings_predict``."""
    from cryosiam_engine.embeddings.model import load_embedding_model
    from cryosiam_engine.embeddings.of_instances import EmbeddingsCommand

    def make(options: RunOptions) -> EmbeddingsCommand:
        model = load_embedding_model(config, options, masking_type=config.masking_type)
        return EmbeddingsCommand(config, model)

    return _predict(config, args, make)


def center_embeddings(config: CenterEmbeddingsConfig, args: argparse.Namespace) -> RunReport:
    """Run ``simsiam_embeddings_from_centers_predict``."""
    from cryosiam_engine.embeddings.model import load_embedding_model
    from cryosiam_engine.embeddings.of_centers import CenterEmbeddingsCommand

    def make(options: RunOptions) -> CenterEmbeddingsCommand:
        # A cube around a centre is taken as it is.
        return CenterEmbeddingsCommand(
            config, load_embedding_model(config, options, masking_type=0)
        )

    return _predict(config, args, make)


def _predict(
    config: DenseConfig, args: argparse.Namespace, make: Callable[[RunOptions], TomogramCommand]
) -> RunReport:
    tiling = args.tiling or config.tiling
    options = RunOptions(args.device, args.precision, tiling, args.overwrite)
    tomograms = tomograms_of(config, args)
    folder = status_folder(config.prediction_folder, args.command)
    try:
        config.check_paths()
        command = make(options)
    except EngineError as error:
        mark_all_failed(args.command, tomograms, folder, error)
        raise
    return TomogramLoop(command, folder, overwrite=options.overwrite).run(tomograms)


def tomograms_of(config: RunConfig, args: argparse.Namespace) -> list[Tomogram]:
    """The tomograms that the configuration and ``--filename`` name."""
    return [
        Tomogram(path, stem_of(path, config.file_extension))
        for path in list_tomograms(config, args.filename)
    ]


def mark_all_failed(
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
