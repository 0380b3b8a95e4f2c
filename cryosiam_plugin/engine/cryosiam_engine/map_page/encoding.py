"""Map data as text that a page can hold: names stay data whatever they contain."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.map_page.data import MapData

#: Names (in small letters) of particles that belong to no cluster, class or tomogram.
NO_NAME = frozenset({"", "-1", "nan", "none", "<na>"})


def encode_data(data: MapData) -> dict[str, Any]:
    """Turn map data (all but the thumbnails) into what :func:`safe_json` takes.

    Parameters
    ----------
    data
        Checked by :meth:`MapData.validate`.

    Returns
    -------
    dict
        Arrays as base64 text of little-endian values; categories as codes and their names in
        natural order (2 before 10), those of :data:`NO_NAME` last.
    """
    return {
        "title": data.title,
        "subtitle": data.subtitle,
        "rows": _base64(np.asarray(data.rows), "<i4"),
        "coordinates": {name: _base64(v, "<f4") for name, v in data.coordinates.items()},
        "categories": {name: _category(values) for name, values in data.categories.items()},
        "numbers": {name: _base64(values, "<f8") for name, values in data.numbers.items()},
    }


def safe_json(value: Any) -> str:
    """Write JSON that may stand inside ``<script>``: no ``<``, ``>`` or ``&``, ASCII only.

    Raises
    ------
    ValueError
        When a number is not finite (JSON has no NaN).
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _base64(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")


def _category(values: Sequence[str]) -> dict[str, Any]:
    names, first_codes = np.unique(
        np.array([str(v) for v in values], dtype=object), return_inverse=True
    )
    order = sorted(range(len(names)), key=lambda index: _rank(str(names[index])))
    new_code = np.empty(len(names), np.uint32)
    new_code[order] = np.arange(len(names))
    nameless = [new_code[i] for i, name in enumerate(names) if name.strip().lower() in NO_NAME]
    return {
        "names": [names[index] for index in order],
        "nameless": sorted(int(code) for code in nameless),
        "codes": _base64(new_code[first_codes], "<u4"),
    }


def _rank(name: str) -> tuple[bool, list[tuple[bool, int, str]], str]:
    """Natural order: digits compare as numbers; names that mean "none" come last."""
    parts: list[tuple[bool, int, str]] = []
    for is_digit, part in _runs(name):
        number = part.lstrip("0")
        parts.append((False, len(number), number) if is_digit else (True, 0, part.lower()))
    return name.strip().lower() in NO_NAME, parts, name


def _runs(name: str) -> list[tuple[bool, str]]:
    runs: list[tuple[bool, str]] = []
    for character in name:
        is_digit = character in "0123456789"
        if runs and runs[-1][0] == is_digit:
            runs[-1] = (is_digit, runs[-1][1] + character)
        else:
            runs.append((is_digit, character))
    return runs
