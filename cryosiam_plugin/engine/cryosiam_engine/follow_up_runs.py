"""How each command that works on earlier results runs."""

from __future__ import annotations

import argparse
import logging

from cryosiam_engine.config import (
    CentersConfig,
    ClusteringConfig,
    EmbeddingMapConfig,
    InstanceFilterConfig,
    PostprocessingConfig,
    VisualizationConfig,
)
from cryosiam_engine.errors import EngineError
from cryosiam_engine.prediction_runs import mark_all_failed, tomograms_of
from cryosiam_engine.run import RunReport, TomogramLoop
from cryosiam_engine.status import status_folder

logger = logging.getLogger(__name__)


def postprocess(config: PostprocessingConfig, args: argparse.Namespace) -> RunReport:
    """Run ``semantic_postprocessing``."""
    from cryosiam_engine.size_filter import SizeFilterCommand

    command = SizeFilterCommand(config)
    folder = status_folder(config.prediction_folder, command.name)
    return TomogramLoop(command, folder, overwrite=True).run(tomograms_of(config, args))


def centers(config: CentersConfig, args: argparse.Namespace) -> RunReport:
    """Run ``semantic_to_centers``."""
    from cryosiam_engine.particles import CentersCommand

    command = CentersCommand(config)
    folder = status_folder(config.prediction_folder, command.name)
    report = TomogramLoop(command, folder, overwrite=True).run(tomograms_of(config, args))
    for path in command.write_tables(merge=bool(args.filename)):
        logger.info("Wrote %s", path)
    return report


def filter_instances(config: InstanceFilterConfig, args: argparse.Namespace) -> RunReport:
    """Run ``instance_filter``."""
    from cryosiam_engine.instances.filter import InstanceFilterCommand

    tomograms = tomograms_of(config, args)
    folder = status_folder(config.prediction_folder, args.command)
    try:
        config.check_paths()
    except EngineError as error:
        mark_all_failed(args.command, tomograms, folder, error)
        raise
    return TomogramLoop(InstanceFilterCommand(config), folder).run(tomograms)


def cluster(config: ClusteringConfig, args: argparse.Namespace) -> RunReport:
    """Run one of the three clustering commands."""
    from cryosiam_engine.clustering.command import run
    from cryosiam_engine.embeddings.map_pages import page_writer

    pages = page_writer(config.data_folder, config.file_extension, config.picture_size)
    return run(config, overwrite=args.overwrite, write_page=pages)


def visualize(config: VisualizationConfig, args: argparse.Namespace) -> RunReport:
    """Run ``simsiam_visualize_embeddings``."""
    from cryosiam_engine.clustering.visualize import run
    from cryosiam_engine.embeddings.map_pages import page_writer

    pages = page_writer(config.data_folder, config.file_extension, config.picture_size)
    return run(config, overwrite=args.overwrite, write_page=pages)


def embedding_map(config: EmbeddingMapConfig, args: argparse.Namespace) -> RunReport:
    """Run ``simsiam_embeddings_map``."""
    from cryosiam_engine.embeddings.map import run

    return run(config, overwrite=args.overwrite)
