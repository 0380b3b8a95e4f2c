"""Which patches an epoch is made of: drawn from tomograms, or those of a regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cryosiam_engine.embeddings.patches import Shape
from cryosiam_engine.training.class_places import BalancedPlaces, UniformPlaces, shifted_into
from cryosiam_engine.training.order import SampleKey, Shuffled
from cryosiam_engine.training.patch_grid import patch_grid
from cryosiam_engine.training.volumes import TrainingVolume


@dataclass(frozen=True)
class DrawnPlaces:
    """Patches drawn anew in every epoch.

    Attributes
    ----------
    volumes
        To draw from.
    chooser
        What decides where.
    patch_size
        Voxels (z, y, x).
    n_patches
        Of an epoch.
    """

    volumes: Sequence[TrainingVolume]
    chooser: BalancedPlaces | UniformPlaces
    patch_size: Shape
    n_patches: int

    def __len__(self) -> int:
        return self.n_patches

    def place(self, key: SampleKey, rng: np.random.Generator) -> tuple[int, Sequence[int]]:
        """Draw a volume and the middle of a patch."""
        index, voxel = self.chooser.draw(rng)
        return index, shifted_into(rng, self.volumes[index], voxel, self.patch_size)


class ListedPlaces:
    """Known patches, each once in an epoch.

    Parameters
    ----------
    places
        Number of the volume, and middle of the patch (z, y, x).
    shuffle_seed
        None leaves the order as it is.
    """

    def __init__(
        self, places: Sequence[tuple[int, Sequence[int]]], shuffle_seed: int | None = None
    ) -> None:
        self._places = list(places)
        self._shuffled = None
        if shuffle_seed is not None:
            self._shuffled = Shuffled(len(self._places), shuffle_seed)

    def __len__(self) -> int:
        return len(self._places)

    def place(self, key: SampleKey, rng: np.random.Generator) -> tuple[int, Sequence[int]]:
        """Give the patch of this number."""
        return self._places[key[1] if self._shuffled is None else self._shuffled[key]]


def whole_volumes(volumes: Sequence[TrainingVolume]) -> list[tuple[int, Sequence[int]]]:
    """One place per volume: for volumes that are patches themselves."""
    return [
        (
            number,
            [(a + b) // 2 for a, b in zip(one.region.start, one.region.stop, strict=True)],
        )
        for number, one in enumerate(volumes)
    ]


def grid_places(
    volumes: Sequence[TrainingVolume], patch_size: Shape, at_most: int
) -> list[tuple[int, Sequence[int]]]:
    """Patches side by side in all volumes; `at_most` so many, evenly spread over them."""
    places: list[tuple[int, Sequence[int]]] = []
    for number, volume in enumerate(volumes):
        for box in patch_grid(volume.region.shape, patch_size, 0.0):
            corner = zip(volume.region.start, box.start, box.shape, strict=True)
            places.append((number, [first + start + size // 2 for first, start, size in corner]))
    if len(places) <= at_most:
        return places
    chosen = np.linspace(0, len(places) - 1, at_most).round().astype(int)
    return [places[index] for index in chosen]
