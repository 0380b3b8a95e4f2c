"""The options of ``cryosiam-engine models``; imports nothing heavy."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done with models, and the options of each."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="all models, and which are here")
    _add_folder(listing)
    listing.add_argument("--json", action="store_true", help="as JSON")

    download = actions.add_parser(
        "download", help="download published models, or verify those that are here"
    )
    download.add_argument("names", nargs="+", metavar="NAME", help="as in the list; all: all of it")
    _add_folder(download)

    verify = actions.add_parser("verify", help="compare models with their checksums")
    verify.add_argument("names", nargs="*", metavar="NAME", help="default: all that are here")
    _add_folder(verify)

    path = actions.add_parser("path", help="print where a model lies")
    path.add_argument("name", metavar="NAME", help="as in the list")
    _add_folder(path)

    convert = actions.add_parser("convert", help="a checkpoint as a file that can only hold data")
    convert.add_argument("source", metavar="SRC.ckpt", help="a checkpoint")
    convert.add_argument("target", metavar="DST.safetensors", help="the file to write")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", metavar="FOLDER", help="where the models lie (default: $CRYOSIAM_MODELS)"
    )
