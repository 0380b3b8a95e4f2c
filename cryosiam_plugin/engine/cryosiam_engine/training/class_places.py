"""Where in the tomograms each class is: to draw patches around rare classes as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.embeddings.patches import Shape
from cryosiam_engine.errors import MaskError
from cryosiam_engine.preprocessing import slabs
from cryosiam_engine.training.mapped_volume import mapped_volume
from cryosiam_engine.training.volumes import LABELS, TrainingVolume

#: Voxels of a class that are remembered per slab: patches overlap anyway.
REMEMBERED = 2000


@dataclass
class ClassPlaces:
    """Voxels of each class in one volume.

    Attributes
    ----------
    counts
        Voxels by class.
    places
        Some of them, `(n, 3)` (z, y, x), by class.
    weights
        Voxels that each of them stands for, `(n,)`, by class.
    """

    counts: dict[int, int] = field(default_factory=dict)
    places: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    weights: dict[int, NDArray[np.float64]] = field(default_factory=dict)


def find_classes(
    volume: TrainingVolume, binary: bool, seed: int, remembered: int = REMEMBERED
) -> ClassPlaces:
    """Look through the labels of a volume, slab by slab.

    Parameters
    ----------
    volume
        With labels.
    binary
        Any label of 1 or more is class 1.
    seed
        Of the choice of remembered voxels.
    remembered
        Voxels of a class that are remembered per slab; 0 only counts.

    Raises
    ------
    MaskError
        When the labels are negative, fractional or not finite.
    """
    path, region = volume.files[LABELS], volume.region
    labels = mapped_volume(path)[region.slices]
    rng = np.random.default_rng(seed)
    result = ClassPlaces()
    found: dict[int, list[tuple[NDArray[np.int64], int]]] = {}
    for part in slabs(labels.shape):
        slab = checked_labels(labels[part], path)
        if binary:
            slab = np.minimum(slab, 1)
        offset = np.array([region.start[0] + part.start, *region.start[1:]])
        for label, count in zip(*fastremap.unique(slab, return_counts=True), strict=True):
            result.counts[int(label)] = result.counts.get(int(label), 0) + int(count)
            if remembered:
                flat = np.flatnonzero(slab == label)
                kept = np.sort(rng.choice(flat, remembered)) if flat.size > remembered else flat
                places = np.stack(np.unravel_index(kept, slab.shape), axis=1) + offset
                found.setdefault(int(label), []).append((places, flat.size))
    result.counts = dict(sorted(result.counts.items()))
    for label, parts in sorted(found.items()):
        result.places[label] = np.concatenate([places for places, _ in parts])
        result.weights[label] = np.concatenate(
            [np.full(len(places), count / len(places)) for places, count in parts]
        )
    return result


def checked_labels(slab: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Labels as whole numbers.

    Parameters
    ----------
    slab
        A part of a label volume, of any type.
    path
        Of its file, to be named.

    Raises
    ------
    MaskError
        When they are negative, fractional or not finite.
    """
    whole = np.asarray(slab)
    if whole.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            fine = np.array_equal(whole, np.rint(whole))
        if not fine or not np.isfinite(whole).all():
            raise MaskError(
                f"{path} is no label volume: it holds fractions or NaN.",
                remedy="Threshold the mask to 0 and 1, or give labels instead of a probability "
                "map.",
            )
    if whole.min() < 0:
        raise MaskError(
            f"{path} holds negative labels.",
            remedy="Labels are 0 for the background and 1, 2, ... for the classes.",
        )
    return whole.astype(np.int64)


class BalancedPlaces:
    """Draws patch centres: first a class, all alike, then one of its voxels.

    Parameters
    ----------
    found
        Of every volume.
    with_background
        Whether patches around background are drawn too.
    equally
        Without it no class is drawn first: all voxels are alike, whatever their class.
    """

    def __init__(
        self, found: Sequence[ClassPlaces], *, with_background: bool, equally: bool = True
    ) -> None:
        self._places: list[NDArray[np.int64]] = []
        self._sums: list[NDArray[np.float64]] = []
        labels = sorted({label for one in found for label in one.counts})
        labels = labels if with_background else [label for label in labels if label]
        for group in [[label] for label in labels] if equally else [labels]:
            having = [
                (index, one, label)
                for label in group
                for index, one in enumerate(found)
                if label in one.counts
            ]
            # The volume's number goes with the voxel: one table, one draw.
            table = [np.insert(one.places[label], 0, index, axis=1) for index, one, label in having]
            self._places.append(np.concatenate(table))
            weights = [one.weights[label] for _, one, label in having]
            self._sums.append(np.cumsum(np.concatenate(weights)))

    def __len__(self) -> int:
        return len(self._places)

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int, int]]:
        """Number of a volume, and a voxel (z, y, x) in it."""
        chosen = int(rng.integers(len(self._places)))
        sums = self._sums[chosen]
        row = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
        index, z, y, x = self._places[chosen][min(row, len(sums) - 1)].tolist()
        return index, (z, y, x)


class UniformPlaces:
    """Draws any voxel of any volume, all alike."""

    def __init__(self, volumes: Sequence[TrainingVolume]) -> None:
        self._regions = [volume.region for volume in volumes]
        self._sums = np.cumsum([float(np.prod(region.shape)) for region in self._regions])

    def draw(self, rng: np.random.Generator) -> tuple[int, tuple[int, int, int]]:
        """As :meth:`BalancedPlaces.draw`."""
        index = int(np.searchsorted(self._sums, rng.random() * self._sums[-1], side="right"))
        region = self._regions[min(index, len(self._regions) - 1)]
        z, y, x = (int(rng.integers(a, b)) for a, b in zip(region.start, region.stop, strict=True))
        return index, (z, y, x)


def shifted_into(
    rng: np.random.Generator, volume: TrainingVolume, place: Sequence[int], patch_size: Shape
) -> tuple[int, int, int]:
    """Move a patch's centre, so that the voxel it was drawn for can be anywhere near its middle.

    The patch stays in the volume's region wherever it fits.
    """
    centre = []
    region = zip(place, patch_size, volume.region.start, volume.region.stop, strict=True)
    for voxel, size, first, end in region:
        reach = size // 3
        moved = voxel + int(rng.integers(-reach, reach + 1))
        low, high = first + size // 2, end - (size - size // 2)
        centre.append(min(max(moved, low), high) if low <= high else (first + end) // 2)
    return centre[0], centre[1], centre[2]
