"""Classes as a user writes them in a form: by number or by name, alone or with a size."""

from __future__ import annotations

import re
from typing import Iterable, Mapping

#: In a list of sizes: components of this class are kept, however small.
KEEP_ALL = -1


def class_name(class_id: int, names: Mapping[int, str]) -> str:
    """The name of a class; ``class 3`` where the model does not tell."""
    return names.get(class_id) or f"class {class_id}"


def class_table(voxels_per_class: Iterable[str], names: Mapping[int, str]) -> dict[int, str]:
    """Names of all classes: those that the engine counted voxels of and those with a name."""
    counted = {int(class_id) for class_id in voxels_per_class}
    return {c: class_name(c, names) for c in sorted(counted | set(names))}


def parse_classes(text: str, names: Mapping[int, str]) -> list[int]:
    """Read a list of classes.

    Parameters
    ----------
    text
        Numbers, ranges and names, separated by commas (numbers also by blanks):
        ``1, 3-5, ribosome``. Empty: no choice was made.
    names
        The model's classes.

    Returns
    -------
    list of int
        Class numbers, each once, sorted.

    Raises
    ------
    ValueError
        Naming what is no class.
    """
    found: list[int] = []
    for part in _parts(text):
        span = re.fullmatch(r"(\d+)\s*-\s*(\d+)", part)
        if span:
            found.extend(range(int(span.group(1)), int(span.group(2)) + 1))
        elif re.fullmatch(r"\d+(\s+\d+)*", part):
            found.extend(int(number) for number in part.split())
        else:
            found.append(_class_of(part, names))
    return sorted({_checked(class_id) for class_id in found})


def parse_sizes(text: str, names: Mapping[int, str]) -> list[int]:
    """Read the smallest component size of some classes.

    Parameters
    ----------
    text
        ``class: voxels``, separated by commas: ``1: 5000, ribosome: 100``.
    names
        The model's classes.

    Returns
    -------
    list of int
        Voxels per class from the background (0) on, -1 where a class keeps everything; empty
        where `text` is.

    Raises
    ------
    ValueError
        Naming what cannot be understood.
    """
    sizes: dict[int, int] = {}
    for part in _parts(text):
        label, colon, voxels = part.rpartition(":")
        if not colon or not voxels.strip().isdigit():
            raise ValueError(f"'{part}' is not of the form 'class: voxels', such as '1: 5000'.")
        sizes[_checked(_class_of(label.strip(), names))] = int(voxels)
    return [sizes.get(c, KEEP_ALL) for c in range(max(sizes) + 1)] if sizes else []


def _parts(text: str) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _class_of(label: str, names: Mapping[int, str]) -> int:
    if label.isdigit():
        return int(label)
    for class_id, name in names.items():
        if name.lower() == label.lower():
            return class_id
    known = ", ".join(f"{c} ({n})" for c, n in sorted(names.items())) or "numbers only"
    raise ValueError(f"The model has no class called '{label}'. Its classes: {known}.")


def _checked(class_id: int) -> int:
    if class_id < 1:
        raise ValueError("Class 0 is the background: give classes from 1 on.")
    return class_id
