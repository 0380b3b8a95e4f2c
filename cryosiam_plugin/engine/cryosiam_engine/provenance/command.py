"""``cryosiam-engine provenance FILE``: where a result comes from."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.provenance.converted import converted_from
from cryosiam_engine.provenance.graph import trace
from cryosiam_engine.provenance.keeping import CONFIGURATIONS
from cryosiam_engine.provenance.library import Made
from cryosiam_engine.provenance.report import render, to_json


def run(args: argparse.Namespace) -> int:
    """Print what made a file, how and from what.

    Parameters
    ----------
    args
        ``file``, and ``json`` or ``config`` for another form of answer.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    ConfigurationError
        When there is no such file, or neither a status file nor the file itself says it.
    """
    path = Path(args.file)
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder.", remedy="Give one of the files in it.")
    graph = trace(path)
    made = graph.origin().made
    if not made and (args.config or converted_from(graph.root) is None):
        raise _unknown(path)
    text = "---\n".join(map(_configuration, made)) if args.config else None
    text = text or (to_json(graph) if args.json else render(graph))
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return 0


def _unknown(path: Path) -> ConfigurationError:
    if not path.exists():
        return ConfigurationError(
            f"There is no file {path}, and no status file near it names one.",
            remedy="Check the path; results are known by the folder 'status' beside them.",
        )
    return ConfigurationError(
        f"Nothing is known of where {path} comes from: no status file in a folder 'status' "
        "beside it, or in the folders above, names it as a result.",
        remedy="Either the engine did not make it, or it was taken out of its folder: keep results "
        "together with the folder 'status', or look where it was made.",
    )


def _configuration(made: Made) -> str:
    """The configuration that a run had, as it was kept."""
    kept = (made.status.origin.get("configuration") or {}).get("kept")
    for folder in made.status_file.parents if kept else ():
        file = folder / CONFIGURATIONS / str(kept)
        if folder.name == "status" and file.is_file():
            return file.read_text(encoding="utf-8")
    raise ConfigurationError(
        f"The configuration of {made.status.command} was not kept: {made.status_file}.",
        remedy="The commands without a configuration file and earlier versions of the engine keep "
        "none; what the status file says of it is shown without --config.",
    )
