"""From a command line to a run on Slurm that only waits to be submitted."""

from __future__ import annotations

import argparse
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import yaml

from cryosiam_engine.config import RunConfig, list_tomograms, load_config, stem_of
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.files import output_error, write_text
from cryosiam_engine.slurm.arguments import TRAININGS, settings_of
from cryosiam_engine.slurm.container import engine_words, paths_in
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.slurm.plan import Item
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.task import ALL_TOMOGRAMS
from cryosiam_engine.status import status_folder

#: Where runs lie in prediction_folder.
RUNS = "slurm"

#: A training may need many time limits; a tomogram should need one.
_REQUEUES_OF_TRAINING = 100
_PASSED_ON = ("device", "precision", "tiling", "task", "processes", "overwrite")


def new_run(args: argparse.Namespace) -> SlurmRun:
    """Write down the run that a command line asks for.

    Parameters
    ----------
    args
        Of ``slurm <command>``.

    Raises
    ------
    EngineError
        When the configuration is wrong or the folder cannot be written.
    SlurmError
        When what is asked of Slurm cannot be right.
    """
    if getattr(args, "dry_run", False):
        raise ConfigurationError(
            "--dry_run learns from one batch only: there is nothing to queue for.",
            remedy=f"Leave out 'slurm', where there is a GPU: srun --gres=gpu:1 cryosiam-engine "
            f"{args.job} --config_file {args.config_file} --dry_run",
        )
    config = load_config(args.config_file, args.job)
    config.check_paths()
    items = _items(config, args)
    settings_of(args).check()
    folder = _new_folder(config.prediction_folder.absolute() / RUNS, args.job)
    return SlurmRun.create(folder, _journal(config, args, folder, items), items)


def _items(config: RunConfig, args: argparse.Namespace) -> list[Item]:
    if args.job in TRAININGS:
        return [Item("training")]
    if not hasattr(args, "filename"):
        return [Item(ALL_TOMOGRAMS)]
    paths = list_tomograms(config, args.filename)
    return [Item(stem_of(path, config.file_extension), str(path.absolute())) for path in paths]


def _journal(
    config: RunConfig, args: argparse.Namespace, folder: Path, items: Iterable[Item]
) -> Journal:
    nodes, processes = _shape_of_training(config, args)
    settings = settings_of(args, nodes=nodes, processes=processes)
    is_training = args.job in TRAININGS
    options = ["--config_file", str(_keep_config(args.config_file, folder)), *_options(args)]
    restart = ["--config_file", str(_keep_config(args.config_file, folder, resume=True))]
    tomograms = (Path(item.filename) for item in items if item.filename)
    return Journal(
        name=f"{args.job}-{secrets.token_hex(4)}",
        command=args.job,
        options=options,
        restart_options=[*restart, *_options(args)] if is_training else [],
        engine=engine_words(
            container=args.container,
            python=args.native,
            paths=[*paths_in(config.model_dump()), *tomograms, folder],
            use_gpu=bool(args.gres or args.gpus_per_task),
        ),
        work_folder=str(Path.cwd()),
        status_folder=str(status_folder(config.prediction_folder, args.job).absolute()),
        settings=settings,
        per_task=args.tomograms_per_task,
        retries=args.retries,
        requeues=_REQUEUES_OF_TRAINING if is_training else 2,
    )


def _shape_of_training(config: RunConfig, args: argparse.Namespace) -> tuple[int, int]:
    """Nodes, and processes on each; one of everything for a prediction."""
    if args.job not in TRAININGS:
        return 1, 1
    on_gpus = bool(args.gres or args.gpus_per_task)
    processes = args.processes or (getattr(config, "gpu_devices", 1) if on_gpus else 1)
    return getattr(config, "nodes", 1), processes


def _options(args: argparse.Namespace) -> list[str]:
    """The engine's own options, as they were given."""
    words: list[str] = []
    for name in _PASSED_ON:
        value = getattr(args, name, None)
        if value is True:
            words.append(f"--{name}")
        elif value not in (None, False):
            words += [f"--{name}", str(value)]
    return words


def _keep_config(config_file: str, folder: Path, *, resume: bool = False) -> Path:
    """Copy the configuration: jobs may begin long after somebody has changed it."""
    text = Path(config_file).read_text(encoding="utf-8")
    path = folder / "config.yaml"
    if resume:
        path = folder / "config_resume.yaml"
        text = yaml.safe_dump({**yaml.safe_load(text), "continue_training": True})
    write_text(path, text)
    return path


def begun(run: Path) -> tuple[str, int]:
    """When a run was begun, as its folder's name says: larger for what was begun later."""
    found = re.search(r"_(\d{8}-\d{6})(?:_(\d+))?$", run.name)
    return (found.group(1), int(found.group(2) or 1)) if found else ("", 0)


def _new_folder(runs: Path, command: str) -> Path:
    """Make a folder that no other run has."""
    base = f"{command}_{time.strftime('%Y%m%d-%H%M%S')}"
    for name in (base, *(f"{base}_{number}" for number in range(2, 100))):
        try:
            (runs / name).mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise output_error(error, runs / name) from error
        return runs / name
    raise ConfigurationError(f"{runs} has too many runs of this second.", remedy="Wait a second.")
