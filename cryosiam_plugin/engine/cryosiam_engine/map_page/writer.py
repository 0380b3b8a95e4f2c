"""Putting the page together: the parts in one file, pictures beside it when they are too many."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from contextlib import suppress
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from cryosiam_engine.files import atomic_path
from cryosiam_engine.map_page.data import MapData
from cryosiam_engine.map_page.encoding import encode_data, safe_json
from cryosiam_engine.map_page.thumbnails import COLUMNS, PER_SHEET, Thumbnails

#: Bytes of pictures that go into the page itself; with more they lie in a folder beside it.
EMBED_BYTES = 30_000_000

#: The page's script, in the order in which its parts build on each other.
SCRIPTS = (
    "data.js",
    "colours.js",
    "grid.js",
    "points.js",
    "chart.js",
    "choice.js",
    "card.js",
    "panel.js",
    "map.js",
)


def write_map(path: str | Path, data: MapData, *, embed_bytes: int = EMBED_BYTES) -> list[Path]:
    """Write the interactive map of embeddings as a web page.

    The page shows the particles as points to pan, zoom, colour and select, and their pictures.
    It asks no network for anything; opening the file is enough.

    Parameters
    ----------
    path
        The page, ``.html``. Replaced when it exists; never half-written.
    data
        What to show.
    embed_bytes
        With more than so many bytes of pictures they go to the folder ``<stem>_files`` beside
        the page, which then has to be moved with it.

    Returns
    -------
    list of Path
        The page, then the sheets of pictures beside it.

    Raises
    ------
    ConfigurationError
        When the parts of `data` do not describe the same particles.
    OutputError
        When the system refuses to write.
    """
    path = Path(path)
    data.validate()
    sheets = data.thumbnails.sheets() if data.thumbnails is not None else []
    beside: list[Path] = []
    if sum(sheet.stat().st_size for sheet in sheets) * 4 // 3 > embed_bytes:
        beside, sheets = [_put_beside(path, sheet) for sheet in sheets], []
    content = encode_data(data)
    if data.thumbnails is not None:
        content["thumbnails"] = _describe(data.thumbnails, beside)
    with atomic_path(path) as partial, partial.open("wb") as page:
        _write_page(page, content, sheets)
    _remove_others(_files_folder(path), beside)
    return [path, *beside]


def _write_page(page: BinaryIO, content: dict[str, Any], sheets: list[Path]) -> None:
    script, style = _script(), _asset("style.css")
    parts = {
        "title": html.escape(content["title"]),
        "policy": _policy(script, style),
        "style": style,
        "script": script,
        "data": safe_json(content),
    }
    # Split once rather than replaced one after the other: a name may look like a placeholder.
    pieces = re.split(r"\{\{(\w+)\}\}", _asset("page.html"))
    for text, name in zip_longest(pieces[::2], pieces[1::2]):
        page.write(text.encode("utf-8"))
        if name == "sheets":
            _embed(page, sheets)
        elif name is not None:
            page.write(parts[name].encode("utf-8", "replace"))


def _script() -> str:
    parts = "\n".join(_asset(name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}}})();\n'


def _policy(script: str, style: str) -> str:
    """Allow this very script and style, pictures beside the page, and its own server only."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src 'sha256-{_digest(script)}'",
            f"style-src 'sha256-{_digest(style)}'",
            "img-src 'self' data: blob: file:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _embed(page: BinaryIO, sheets: list[Path]) -> None:
    for number, sheet in enumerate(sheets):
        page.write(f'<script type="text/plain" id="sheet-{number}">'.encode())
        page.write(base64.b64encode(sheet.read_bytes()))
        page.write(b"</script>\n")


def _describe(thumbnails: Thumbnails, beside: list[Path]) -> dict[str, Any]:
    return {
        "size": thumbnails.size,
        "columns": COLUMNS,
        "perSheet": PER_SHEET,
        "type": f"image/{thumbnails.format}",
        "files": [quote(f"{sheet.parent.name}/{sheet.name}") for sheet in beside],
    }


def _files_folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}_files")


def _put_beside(path: Path, sheet: Path) -> Path:
    # Named by its content: a page that is open, or still the old one, never gets other pictures.
    content = sheet.read_bytes()
    mark = hashlib.sha256(content).hexdigest()[:8]
    target = _files_folder(path) / f"{sheet.stem}-{mark}{sheet.suffix}"
    with atomic_path(target) as partial:
        partial.write_bytes(content)
    return target


def _remove_others(folder: Path, wanted: list[Path]) -> None:
    """Remove the sheets of an earlier page of the same name, and nothing else."""
    for sheet in folder.glob("sheet-*-*.*"):
        if sheet not in wanted:
            sheet.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
