"""What a map shows: where every particle lies, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.map_page.thumbnails import Thumbnails


@dataclass
class MapData:
    """The particles of a map, one entry each in every array.

    Parameters
    ----------
    coordinates
        The maps to choose from, such as ``{"UMAP": ..., "PCA": ...}``, each `(n, 2)`. A particle
        whose coordinates are not finite is counted but not drawn.
    rows
        `(n,)` whole numbers that identify the particles to the reader of a selection: their rows
        in the embeddings file. Without repeats.
    categories
        Names per particle, such as cluster, tomogram and class. An empty name, ``-1``, ``nan``
        and ``none`` mean "belongs to none" and are drawn in grey. The first category colours the
        page when it opens; one called ``tomogram`` is what the search box looks through.
    numbers
        Values per particle, such as size and score; NaN where unknown.
    title, subtitle
        Heading of the page, and below it where the data come from.
    thumbnails
        Pictures of the particles, added in the same order; None for a map without pictures.
    """

    coordinates: dict[str, NDArray[np.float32]]
    rows: NDArray[np.integer]
    categories: dict[str, Sequence[str]] = field(default_factory=dict)
    numbers: dict[str, NDArray[np.floating | np.integer]] = field(default_factory=dict)
    title: str = "Map of embeddings"
    subtitle: str = ""
    thumbnails: Thumbnails | None = None

    def validate(self) -> None:
        """Check that everything describes the same particles.

        Raises
        ------
        ConfigurationError
            Naming the first part that does not fit.
        """
        n = len(self.rows)
        if not self.coordinates:
            raise ConfigurationError(
                "A map needs coordinates.", remedy="Compute a UMAP or PCA of the embeddings first."
            )
        for name, points in self.coordinates.items():
            if np.shape(points) != (n, 2):
                raise _mismatch(f"coordinates {name!r}", np.shape(points), (n, 2))
        parts: dict[str, Sized] = {**self.categories, **self.numbers}
        if self.thumbnails is not None:
            parts["thumbnails"] = range(len(self.thumbnails))
        for name, values in parts.items():
            if len(values) != n:
                raise _mismatch(f"{name!r}", (len(values),), (n,))
        if n and (np.min(self.rows) < 0 or np.max(self.rows) > np.iinfo(np.int32).max):
            raise _mismatch("row numbers", "numbers outside 0 to 2147483647", "row numbers")
        if len(np.unique(self.rows)) != n:
            raise _mismatch("row numbers", "repeats", "one row per particle")


def _mismatch(what: str, found: object, expected: object) -> ConfigurationError:
    return ConfigurationError(
        f"The map's {what}: found {found}, expected {expected}.",
        remedy="Write the map again from embeddings and clusters of the same particles.",
    )
