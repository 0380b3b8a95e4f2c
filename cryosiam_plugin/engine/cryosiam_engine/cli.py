"""The command line ``cryosiam-engine``; everything heavy is imported when it is needed."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from cryosiam_engine import __version__, doctor
from cryosiam_engine.caches import ensure_numba_cache
from cryosiam_engine.errors import EngineError, Interrupted
from cryosiam_engine.logs import log_to_terminal
from cryosiam_engine.models import arguments as models
from cryosiam_engine.processing.command import COMMANDS as PROCESSING
from cryosiam_engine.simulation import command as simulation
from cryosiam_engine.slurm import arguments as slurm
from cryosiam_engine.training import arguments as training

logger = logging.getLogger(__name__)

#: Exit code when a run could not begin: a wrong configuration, model, device or folder.
CANNOT_BEGIN = 2
#: Exit code of an error that is ours, not the user's.
INTERNAL_ERROR = 3

_PREDICTIONS = {
    "denoise_predict": "denoise raw tomograms",
    "semantic_predict": "lamella mask (one-class model) or semantic segmentation",
    "instance_predict": "instance segmentation: every particle gets a number",
    "simsiam_embeddings_predict": "embeddings of instances",
    "simsiam_embeddings_from_centers_predict": "embeddings of particles given by their centres",
}
_FOLLOW_UPS = {
    "semantic_postprocessing": "drop the small components of a segmentation, in place",
    "semantic_to_centers": "particle centres (CSV and STAR) from a segmentation",
    "instance_filter": "keep the instances that lie in a mask",
}
_TRAINING_DATA = {
    "semantic_filter_ground_truth": "training labels with only some of the classes",
    "semantic_train_preprocess": "distance maps of training labels",
    "semantic_train_create_patches": "cut training tomograms into patches on disk",
}
_TRAININGS = {
    "semantic_train": "train or fine-tune a semantic segmentation",
    "train": "train a model for any task",
}
_ON_ALL_TOMOGRAMS = {
    "simsiam_embeddings_kmeans_clustering": "cluster embeddings by k-means",
    "simsiam_embeddings_spectral_clustering": "cluster embeddings by spectral clustering",
    "simsiam_embeddings_hdbscan_clustering": "cluster embeddings by density (HDBSCAN)",
    "simsiam_embeddings_map": "interactive map of all embeddings, with clusters and pictures",
    "simsiam_visualize_embeddings": "a map of each tomogram's embeddings",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Arguments without the program's name; None takes the process's own.

    Returns
    -------
    int
        0: all done; 1: some tomograms failed; 2: the run could not begin; 3: an error of ours;
        128 + n: stopped by signal n.
    """
    args = build_parser().parse_args(argv)
    ensure_numba_cache()
    with log_to_terminal():
        return _guarded(args)


def _guarded(args: argparse.Namespace) -> int:
    """Run the command; every error becomes one line and an exit code."""
    try:
        return int(args.run(args))
    except EngineError as error:
        logger.error("%s", error)
        return CANNOT_BEGIN
    except Interrupted as error:
        logger.error("Stopped by signal %d. Run the same command to go on.", error.signal_number)
        return 128 + error.signal_number
    except BrokenPipeError:
        return INTERNAL_ERROR
    except Exception:
        logger.exception("This is an error in cryosiam-engine itself: please report it.")
        return INTERNAL_ERROR


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="cryosiam-engine",
        description="CryoSiam for cryo-electron tomograms: the original's commands, "
        "configurations and checkpoints, on a GPU or a CPU, in bounded memory.",
    )
    parser.add_argument("--version", action="version", version=f"cryosiam-engine {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_engine_commands(commands)
    for name, processing in PROCESSING.items():
        processing.add_arguments(
            commands.add_parser(name, help=processing.text, description=processing.text)
        )
    _add_tools(commands)
    on_slurm = commands.add_parser("slurm", help="run a command on a Slurm cluster, as a job array")
    slurm.add_arguments(on_slurm, _add_engine_commands)
    return parser


def _add_engine_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands that take a configuration: here, and below ``slurm``."""
    for name, text in _PREDICTIONS.items():
        command = _add_command(commands, name, text)
        _add_prediction_options(command)
    for name, text in {**_FOLLOW_UPS, **_TRAINING_DATA}.items():
        _add_filename(_add_command(commands, name, text))
    for name, text in _ON_ALL_TOMOGRAMS.items():
        _add_overwrite(_add_command(commands, name, text))
    for name, text in _TRAININGS.items():
        command = _add_command(commands, name, text)
        add_compute_options(command)
        training.add_arguments(command, any_task=name == "train")
        command.set_defaults(run=_run_training)


def _add_command(
    commands: argparse._SubParsersAction, name: str, text: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument(
        "--config_file", required=True, metavar="YAML", help="CryoSiam configuration file"
    )
    command.set_defaults(run=_run_command)
    return command


def _add_filename(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--filename",
        action="append",
        default=[],
        metavar="FILE",
        help="only this tomogram, by its name in data_folder (may be repeated)",
    )


def _add_overwrite(command: argparse.ArgumentParser) -> None:
    command.add_argument("--overwrite", action="store_true", help="compute finished results again")


def _add_prediction_options(command: argparse.ArgumentParser) -> None:
    add_compute_options(command)
    command.add_argument(
        "--tiling",
        choices=["auto", "reference"],
        help="auto: the largest tiles that fit, no seams; reference: the original's tiles "
        "(default: the configuration's tiling key, else auto)",
    )
    _add_filename(command)
    _add_overwrite(command)


def add_compute_options(command: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--precision`` to a command's parser."""
    command.add_argument(
        "--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N"
    )
    command.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="auto: float32, with the GPU's TF32 units where it has them",
    )


def _add_tools(commands: argparse._SubParsersAction) -> None:
    models_command = commands.add_parser("models", help="list, download and verify models")
    models.add_arguments(models_command)
    models_command.set_defaults(run=_run_models)

    doctor_command = commands.add_parser("doctor", help="check GPU, driver, precision and memory")
    doctor.add_arguments(doctor_command)
    doctor_command.set_defaults(run=doctor.run)

    simulate = commands.add_parser("simulate", help="make tomograms with exact ground truth")
    simulation.add_arguments(simulate)
    simulate.set_defaults(run=simulation.run)

    provenance = commands.add_parser("provenance", help="what made a result, how and from what")
    provenance.add_argument("file", metavar="FILE", help="any file that a command wrote")
    form = provenance.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, as JSON")
    form.add_argument("--config", action="store_true", help="the configuration it was made with")
    provenance.set_defaults(run=_run_provenance)

    demo = commands.add_parser("demo", help="the whole workflow on simulated tomograms")
    demo.add_argument(
        "--output", default="cryosiam-demo", metavar="FOLDER", help="default: cryosiam-demo"
    )
    add_compute_options(demo)
    demo.set_defaults(run=_run_demo)


def _run_command(args: argparse.Namespace) -> int:
    from cryosiam_engine.commands import run

    return run(args)


def _run_training(args: argparse.Namespace) -> int:
    from cryosiam_engine.training.command import main as run

    return run(args)


def _run_models(args: argparse.Namespace) -> int:
    from cryosiam_engine.models.command import run

    return run(args)


def _run_provenance(args: argparse.Namespace) -> int:
    from cryosiam_engine.provenance.command import run

    return run(args)


def _run_demo(args: argparse.Namespace) -> int:
    from cryosiam_engine.demo import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
