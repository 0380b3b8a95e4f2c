"""What the user decides about the separation of instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

#: Distance (voxels) between two levels at which the cores of instances are looked at.
LEVEL_STEP = 0.5


@dataclass(frozen=True)
class SeparationSettings:
    """How instances are found and separated.

    Attributes
    ----------
    threshold_foreground
        Foreground probability from which a voxel belongs to an instance. Below 1 the probability
        is smoothed first.
    distance_type
        Which distance to the surface of the particle separates touching instances: 0 the predicted
        one, 2 the Euclidean one within the foreground, 1 the mean of the two.
    min_center_distance
        Distance (voxels) that an instance must reach somewhere.
    max_center_distance
        Distance (voxels) up to which an instance is split where it falls into parts.
    """

    threshold_foreground: float
    distance_type: Literal[0, 1, 2]
    min_center_distance: float
    max_center_distance: float

    def levels(self) -> list[float]:
        """Give the distances, ascending, at which instances are looked at."""
        low, high = self.min_center_distance, self.max_center_distance
        # NumPy compares 32-bit distances with a Python float in 32 bits, but with its own float in
        # 64: the two types are kept apart as in the original, so that both decide alike.
        return [float(low), *np.arange(low + LEVEL_STEP, high + LEVEL_STEP, LEVEL_STEP)]

    def levels_reached_everywhere(self, dtype: DTypeLike) -> int:
        """Count the levels that even the background, of distance 0, reaches."""
        background = np.zeros(1, dtype)
        return sum(bool((background >= level)[0]) for level in self.levels())
