"""Which classes a protocol can look for, and how a choice of them is written."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from cryosiam_plugin.convert import label_table_of
from cryosiam_plugin.protocols.class_lists import class_name, parse_classes


class NothingToChoose(Exception):
    """There is nothing to choose from; the message says why and what to do."""


def classes_of(protocol: Any) -> dict[int, str]:
    """The classes that a protocol will find, with their names.

    Of its model, or, where it starts from label masks, of these.

    Raises
    ------
    NothingToChoose
        When neither tells.
    """
    model = protocol._model()
    if model is None:
        return classes_of_masks(protocol.inputLabels.get())
    # A model that is not on this machine may still be known by its published description.
    if model.problem and not model.classes and not model.n_classes:
        raise NothingToChoose(model.problem)
    return _named(model.classes, {*model.classes, *range(1, model.n_classes + 1)})


def classes_of_masks(masks: Any) -> dict[int, str]:
    """The classes of a set of label masks, with their names.

    Raises
    ------
    NothingToChoose
        When there are no masks yet, or they do not tell.
    """
    if masks is None:
        raise NothingToChoose("Give the label masks first: they know their classes.")
    names = label_table_of(masks.getFirstItem())
    return _named(names, set(names))


def _named(names: Mapping[int, str], found: set[int]) -> dict[int, str]:
    numbers = sorted(found - {0})
    if not numbers:
        raise NothingToChoose(
            "Nothing is known about the classes. Type their numbers, or import the model with "
            "'import model' and give it the names of its classes."
        )
    return {number: class_name(number, names) for number in numbers}


def write_classes(
    chosen: Iterable[int], names: Mapping[int, str], *, all_is_empty: bool = True
) -> str:
    """Write a choice as the form takes it: by name where that is unambiguous, else by number.

    All of them are written as nothing where the form takes that as all (`all_is_empty`).
    """
    numbers = sorted(chosen)
    if all_is_empty and set(numbers) == set(names):
        return ""
    return ", ".join(_written(number, names) for number in numbers)


def _written(number: int, names: Mapping[int, str]) -> str:
    try:
        if parse_classes(names[number], names) == [number]:
            return names[number]
    except ValueError:
        pass
    return str(number)


def read_choice(text: str, names: Mapping[int, str]) -> list[int]:
    """The classes that the form has now; all of them where it has none or nonsense."""
    try:
        return parse_classes(text, names) or sorted(names)
    except ValueError:
        return sorted(names)
