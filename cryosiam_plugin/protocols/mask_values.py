"""Numbers that a user gives for each class of a mask, such as radii."""

from __future__ import annotations

import math
from typing import Mapping


def values_of_classes(text: str, names: Mapping[int, str], example: str) -> dict[int, float]:
    """Read a number for each class.

    Parameters
    ----------
    text
        One for all, one for each in the order of their labels (``140, 70``), or by name or label
        (``ribosome: 140, proteasome: 70``).
    names
        The classes, by label.
    example
        What is shown to who writes something else.

    Raises
    ------
    ValueError
        Naming what cannot be understood, or is missing.
    """
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    labels = sorted(names)
    if any(":" in part for part in parts):
        values = dict(_named_value(part, names, example) for part in parts)
        missing = [names[label] for label in labels if label not in values]
        if missing:
            raise ValueError(f"Nothing is given for {', '.join(missing)}.")
        return values
    numbers = [_number(part, example) for part in parts]
    if len(numbers) == 1:
        numbers *= len(labels)
    if len(numbers) != len(labels):
        raise ValueError(
            f"{len(numbers)} values for {len(labels)} classes "
            f"({', '.join(names[label] for label in labels)}): give one for all, or one for each, "
            f"such as '{example}'."
        )
    return dict(zip(labels, numbers))


def write_values(values: Mapping[int, float], names: Mapping[int, str]) -> str:
    """Write numbers of classes so that :func:`values_of_classes` reads them."""
    return ", ".join(
        f"{label if _is_misread(names[label], label, names) else names[label]}: {values[label]:g}"
        for label in sorted(values)
    )


def _is_misread(name: str, label: int, names: Mapping[int, str]) -> bool:
    return "," in name or name != name.strip() or _label_of(name, names) != label


def _named_value(part: str, names: Mapping[int, str], example: str) -> tuple[int, float]:
    name, colon, number = part.rpartition(":")
    if not colon:
        raise ValueError(f"'{part}' names no class: write all of them as in '{example}'.")
    label = _label_of(name.strip(), names)
    if label is None:
        known = ", ".join(names[label] for label in sorted(names))
        raise ValueError(f"There is no class '{name.strip()}'. The classes: {known}.")
    return label, _number(number, example)


def _label_of(text: str, names: Mapping[int, str]) -> int | None:
    for label in sorted(names):
        if text.lower() == names[label].lower():
            return label
    return int(text) if text.isdigit() and int(text) in names else None


def _number(text: str, example: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"'{text.strip()}' is no number; write it as in '{example}'.")
    return value
