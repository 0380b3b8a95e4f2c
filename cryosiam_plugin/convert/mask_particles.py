"""Particles of several sets, as masks are drawn from them: class, place and orientation."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, NamedTuple

import numpy as np
from tomo.objects import SetOfSubTomograms

from cryosiam_plugin.convert.embeddings import (
    coordinate_of,
    coordinates_sampling_rate,
    index_in,
    ts_id_column,
)
from cryosiam_plugin.convert.orientations import orientation_of
from cryosiam_plugin.convert.particles import CLASS_NAME, Index, voxel_origin

_GROUP = "_groupId"


class FoundClass(NamedTuple):
    """Particles of a set that are of one class.

    Attributes
    ----------
    source
        Which of the sets, from 0.
    name
        Of the class; empty where the particles do not tell.
    group
        Their group, for us the label value of the class; 0 is none.
    number
        How many they are.
    """

    source: int
    name: str
    group: int
    number: int


class Target(NamedTuple):
    """A tomogram that is to get a mask.

    Attributes
    ----------
    tomogram
        Scipion's object.
    shape
        (z, y, x) in voxels.
    origin
        What :func:`voxel_origin` gives.
    """

    tomogram: Any
    shape: tuple[int, int, int]
    origin: Index

    @classmethod
    def of(cls, tomogram: Any) -> Target:
        """Look up the size of a tomogram.

        Raises
        ------
        ValueError
            When its file cannot be read.
        """
        # Scipion's readers raise whatever they like.
        try:
            x, y, z = tomogram.getDim()
            return cls(tomogram, (int(z), int(y), int(x)), voxel_origin(tomogram))
        except Exception as error:
            name = tomogram.getFileName()
            raise ValueError(f"The size of {name} cannot be read: {error!r}") from error


class MaskParticle(NamedTuple):
    """One particle of a mask.

    Attributes
    ----------
    tsId
        Of its tomogram.
    label
        The value that its class has in the mask.
    centre
        In voxels (z, y, x) of the tomogram that gets the mask, with fractions.
    rotation
        Turns x, y, z around its centre into x, y, z of the average, `(3, 3)`.
    """

    tsId: str
    label: int
    centre: Index
    rotation: np.ndarray


def classes_in(particles: Any, source: int) -> list[FoundClass]:
    """The classes of a set of coordinates or subtomograms.

    Parameters
    ----------
    particles
        The set.
    source
        Which of several sets it is.
    """
    if not particles.getSize():
        return []
    within = "_coordinate." if isinstance(particles, SetOfSubTomograms) else ""
    with _Fresh(particles) as fresh:
        coordinate = coordinate_of(next(iter(fresh.iterItems())))
        named = getattr(coordinate, CLASS_NAME, None) is not None
        columns = [f"{within}{_GROUP}"] + ([f"{within}{CLASS_NAME}"] if named else [])
        rows = fresh.aggregate(["COUNT"], ts_id_column(particles), columns)
    return [
        FoundClass(
            source,
            str(row[columns[-1]] or "") if named else "",
            int(row[columns[0]] or 0),
            int(row["COUNT"]),
        )
        for row in rows
    ]


def particles_of(
    particles: Any,
    label_of: Callable[[str, int], int | None],
    targets: Mapping[str, Target],
) -> Iterator[MaskParticle | str]:
    """Read a set of coordinates or subtomograms.

    Parameters
    ----------
    particles
        The set.
    label_of
        Label of a class by its name and group; None: left out.
    targets
        The tomograms that get masks, by tsId.

    Yields
    ------
    MaskParticle or str
        A particle; the tsId of one that is in none of these tomograms.
    """
    # The shifts of subtomograms count their own voxels, which may be others than the coordinates'.
    rate, shifts_rate = coordinates_sampling_rate(particles), float(particles.getSamplingRate())
    with _Fresh(particles) as fresh:
        for item in fresh.iterItems():
            coordinate = coordinate_of(item)
            name = getattr(coordinate, CLASS_NAME, None)
            label = label_of(str(name.get() or "") if name else "", coordinate.getGroupId() or 0)
            if label is None:
                continue
            tsId = str(coordinate.getTomoId())
            if tsId not in targets:
                yield tsId
                continue
            target = targets[tsId]
            index = index_in(coordinate, rate, target.tomogram, target.origin)
            rotation, shift = orientation_of(item)
            scale = shifts_rate / target.tomogram.getSamplingRate()
            z, y, x = (i + scale * s for i, s in zip(index, shift[::-1]))
            yield MaskParticle(tsId, label, (z, y, x), rotation)


class _Fresh:
    """An object of our own for a set: the pointer's one keeps what it has read."""

    def __init__(self, particles: Any) -> None:
        self._fresh = type(particles)(filename=particles.getFileName())

    def __enter__(self) -> Any:
        self._fresh.loadAllProperties()
        return self._fresh

    def __exit__(self, *error: object) -> None:
        self._fresh.close()
