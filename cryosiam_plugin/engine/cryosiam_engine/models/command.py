"""``cryosiam-engine models``: list, download, verify, find and convert models."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cryosiam_engine.errors import ConfigurationError, UnreachableError
from cryosiam_engine.models.advice import download_command, without_internet
from cryosiam_engine.models.built_in import built_in_models, find_built_in
from cryosiam_engine.models.listing import Model, format_table, to_json
from cryosiam_engine.models.registry import (
    PublishedModel,
    find_model,
    models_folder,
    published_models,
    required_folder,
)

logger = logging.getLogger(__name__)

ALL = "all"


def run(args: argparse.Namespace) -> int:
    """Do what the command line says.

    Parameters
    ----------
    args
        As :func:`cryosiam_engine.models.arguments.add_arguments` declares them.

    Returns
    -------
    int
        0: all is well; 1: a model could not be downloaded, or is not what it should be.

    Raises
    ------
    EngineError
        When it cannot be begun.
    Interrupted
        When the process was asked to stop.
    """
    return _ACTIONS[args.action](args)


def _list(args: argparse.Namespace) -> int:
    models: list[Model] = [*published_models(), *built_in_models()]
    folder = models_folder(args.folder)
    # A file or a program that reads it gets whole lines.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    _print(to_json(models, folder) if args.json else format_table(models, folder, width))
    return 0


def _download(args: argparse.Namespace) -> int:
    # Only this action needs them.
    from huggingface_hub.utils import disable_progress_bars

    from cryosiam_engine.models.download import download_models
    from cryosiam_engine.models.progress import DownloadProgress
    from cryosiam_engine.signals import interruptible

    models, folder = _chosen(args.names), required_folder(args.folder)
    # Theirs would be drawn over ours.
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    with interruptible(), DownloadProgress() as progress:
        outcomes = download_models(models, folder, progress)
    for outcome in outcomes:
        if outcome.error is None:
            _print(f"{outcome.model.name}: {outcome.state}, {folder / outcome.model.file}")
        else:
            logger.error("%s: %s", outcome.model.name, outcome.error)
    away = [o.model for o in outcomes if isinstance(o.error, UnreachableError)]
    if away:
        logger.error(without_internet(away, folder))
    return int(any(outcome.error for outcome in outcomes))


def _verify(args: argparse.Namespace) -> int:
    from cryosiam_engine.models.verify import verify_folder

    folder = required_folder(args.folder)
    verdicts = verify_folder(folder, _chosen(args.names) if args.names else ())
    for verdict in verdicts:
        _print(str(verdict))
    if not verdicts:
        _print(f"There are no models in {folder}.")
    # Somebody who names a model wants it to be there.
    bad = ("changed", "missing") if args.names else ("changed",)
    return int(any(verdict.state in bad for verdict in verdicts))


def _path(args: argparse.Namespace) -> int:
    built_in = find_built_in(args.name)
    if built_in is not None:
        _print(str(built_in.path()))
        return 0
    model, folder = find_model(args.name), required_folder(args.folder)
    path = folder / model.file
    if not path.is_file():
        raise ConfigurationError(
            f"{model.name} is not here: there is no {path}.",
            remedy=f"Download it: {download_command([model.name], folder)}",
        )
    _print(str(path))
    return 0


def _convert(args: argparse.Namespace) -> int:
    from cryosiam_engine.models.convert import convert_model

    source, target = Path(args.source), Path(args.target)
    if target.suffix != ".safetensors":
        raise ConfigurationError(
            f"{target} does not end in .safetensors.", remedy="Give it a name that does."
        )
    if not source.is_file():
        raise ConfigurationError(
            f"There is no file {source}.",
            remedy="'cryosiam-engine models path NAME' tells where a downloaded model lies.",
        )
    convert_model(source, target)
    _print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    return 0


def _chosen(names: Sequence[str]) -> list[PublishedModel]:
    """The models that the command line names, each once."""
    if ALL in names:
        return published_models()
    for name in names:
        if find_built_in(name) is not None:
            raise ConfigurationError(
                f"{name} is built in.",
                remedy=f"It needs no download: 'cryosiam-engine models path {name}' tells where it "
                "lies.",
            )
    return list({model.name: model for model in map(find_model, names)}.values())


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


_ACTIONS = {
    "list": _list,
    "download": _download,
    "verify": _verify,
    "path": _path,
    "convert": _convert,
}
