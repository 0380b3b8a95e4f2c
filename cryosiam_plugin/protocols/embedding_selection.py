"""Which particles were selected on a map: the file, and what it means."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Iterable

ROW = "row"
ROWS = "rows"


def read_selection(path: Path) -> set[int]:
    """Read the rows of a selection.

    Parameters
    ----------
    path
        A table (CSV) with a column ``row``, as the map exports it; or JSON: a list of rows, or an
        object with one called ``rows``.

    Raises
    ------
    OSError, ValueError
        When it cannot be read or is nothing of the kind.
    """
    text = Path(path).read_text(encoding="utf-8-sig")
    try:
        rows = _rows_of_json(text) if text.lstrip()[:1] in ("{", "[") else _rows_of_csv(text)
        found = {int(row) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no selection: it needs a column '{ROW}', as the map's CSV file has it."
        ) from error
    if not found:
        raise ValueError(f"There are no rows in {path}: nothing was selected.")
    if min(found) < 0:
        raise ValueError(f"{path} has rows below 0.")
    return found


def _rows_of_json(text: str) -> Iterable[Any]:
    data = json.loads(text)
    return data[ROWS] if isinstance(data, dict) else data


def _rows_of_csv(text: str) -> list[str]:
    return [line[ROW] for line in csv.DictReader(text.splitlines())]


def write_selection(path: Path, rows: Iterable[int]) -> None:
    """Write rows as a table that :func:`read_selection` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{row}\n" for row in sorted(set(rows)))
    path.write_text(f"{ROW}\n{lines}", encoding="utf-8")
