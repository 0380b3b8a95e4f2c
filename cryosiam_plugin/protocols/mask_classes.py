"""Which particles become which class of a mask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Iterable, Mapping, Sequence, Tuple

from cryosiam_plugin.convert.mask_particles import FoundClass
from cryosiam_plugin.protocols.class_lists import class_name

#: More classes than this are no classes but, say, the numbers of vesicles.
MOST_CLASSES = 255

#: What a particle says about its class: the name in small letters, or, without one, the group.
Key = Tuple[str, int]


@dataclass(frozen=True)
class MaskClasses:
    """The classes of the masks.

    Attributes
    ----------
    names
        By label, from 1 on.
    numbers
        Particles of each, by label.
    of_source
        Label of all particles of a set, by its place; empty where each particle has its class.
    of_particle
        Else the label by what a particle says.
    """

    names: dict[int, str]
    numbers: dict[int, int]
    of_source: dict[int, int]
    of_particle: dict[Key, int]

    def label_of(self, source: int) -> Callable[[str, int], int | None]:
        """What gives the label of a particle of a set by its class name and group, if any."""
        if self.of_source:
            label = self.of_source[source]
            return lambda name, group: label
        return lambda name, group: self.of_particle.get(_key(name, group))


def classes_of_sets(text: str, found: Sequence[Sequence[FoundClass]]) -> MaskClasses:
    """Each set of particles is a class.

    Parameters
    ----------
    text
        Names in the order of the sets, with labels where these are not 1, 2...:
        ``ribosome, proteasome`` or ``2: ribosome, 4: rubisco``. Empty: the name that all
        particles of a set have, or ``class 1``.
    found
        What is in each set.

    Raises
    ------
    ValueError
        When there are more or fewer names than sets, or a label comes twice.
    """
    given = _labelled(text)
    if given and len(given) != len(found):
        raise ValueError(
            f"{len(given)} classes for {len(found)} sets: give one for each, in their order."
        )
    labels = [label for label, _ in given] or list(range(1, len(found) + 1))
    names = [name for _, name in given] or [_common_name(classes) for classes in found]
    return MaskClasses(
        {label: name or class_name(label, {}) for label, name in zip(labels, names)},
        {label: sum(c.number for c in classes) for label, classes in zip(labels, found)},
        dict(enumerate(labels)),
        {},
    )


def classes_of_particles(text: str, found: Iterable[Sequence[FoundClass]]) -> MaskClasses:
    """Each particle has its class: the name of its class, or, without a name, its group.

    Parameters
    ----------
    text
        The classes to take, by name or group, with labels where these are not 1, 2... Empty: all,
        with their groups as labels where these are unique, else in the order of their names.
    found
        What is in each set.

    Raises
    ------
    ValueError
        When the particles have no classes, or not those that are asked for.
    """
    of_key: dict[Key, list[FoundClass]] = {}
    for one in (c for classes in found for c in classes if c.name or c.group):
        of_key.setdefault(_key(one.name, one.group), []).append(one)
    if not 1 <= len(of_key) <= MOST_CLASSES:
        reason = f"{len(of_key)} groups, too many for classes" if of_key else "no classes"
        raise ValueError(f"These particles have {reason}. Choose that the sets are the classes.")
    asked = {_asked(name, of_key): label for label, name in _labelled(text)}
    if len(asked) != len(_labelled(text)):
        raise ValueError("A class is given twice.")
    labels = asked or _own_labels(of_key)
    return MaskClasses(
        {label: _name(key, of_key[key]) for key, label in labels.items()},
        {label: sum(c.number for c in of_key[key]) for key, label in labels.items()},
        {},
        labels,
    )


def _labelled(text: str) -> list[tuple[int, str]]:
    """Label and name of each class; the label is the place where none is given."""
    found: list[tuple[int, str]] = []
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    for place, part in enumerate(parts, 1):
        given = re.fullmatch(r"(\d+)\s*:\s*(.*)", part)
        label, name = (int(given.group(1)), given.group(2)) if given else (place, part)
        if not 1 <= label <= MOST_CLASSES:
            raise ValueError(f"The number {label} is none of 1 to {MOST_CLASSES}.")
        if label in (other for other, _ in found):
            raise ValueError(f"The number {label} is given to several classes.")
        found.append((label, name))
    return found


def _common_name(classes: Sequence[FoundClass]) -> str:
    names = {one.name for one in classes}
    return names.pop() if len(names) == 1 else ""


def _key(name: str, group: int) -> Key:
    return (name.lower(), 0) if name else ("", group)


def _name(key: Key, classes: Sequence[FoundClass]) -> str:
    return classes[0].name or class_name(key[1], {})


def _own_labels(of_key: Mapping[Key, Sequence[FoundClass]]) -> dict[Key, int]:
    """The groups as labels, where every class has one of its own."""
    groups = {key: {one.group for one in classes} for key, classes in of_key.items()}
    labels = {key: min(found) for key, found in groups.items()}
    if (
        all(len(found) == 1 for found in groups.values())
        and len(set(labels.values())) == len(labels)
        and all(1 <= label <= MOST_CLASSES for label in labels.values())
    ):
        return labels
    return {key: place for place, key in enumerate(sorted(of_key), 1)}


def _asked(text: str, of_key: Mapping[Key, Sequence[FoundClass]]) -> Key:
    """The class that is meant by a name, or by the number of a group."""
    if _key(text, 0) in of_key:
        return _key(text, 0)
    if text.isdigit():
        of_group = [k for k, found in of_key.items() if {c.group for c in found} == {int(text)}]
        if len(of_group) == 1:
            return of_group[0]
    known = ", ".join(sorted(_name(key, found) for key, found in of_key.items()))
    raise ValueError(f"No particle is of the class '{text}'. Their classes: {known}.")
