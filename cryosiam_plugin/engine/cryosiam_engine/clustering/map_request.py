"""What a page with a map of embeddings is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass
class MapRequest:
    """A page to be written.

    Attributes
    ----------
    path
        The HTML file.
    title
        What the page shows.
    coordinates
        For each kind of map (``UMAP``, ``PCA``) one row per particle, shape `(n, 2)` or `(n, 3)`.
    table
        One row per particle, in the same order: whatever is known of it.
    color_by
        The column that gives the points their colour at first, if there is one.
    """

    path: Path
    title: str
    coordinates: dict[str, NDArray[np.float32]]
    table: pd.DataFrame
    color_by: str | None


#: Writes the page and returns all files that it wrote.
PageWriter = Callable[[MapRequest], list[Path]]
