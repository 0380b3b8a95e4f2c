"""How tomograms are shared out among engine processes."""

from __future__ import annotations

import math
from typing import Sequence


def automatic_size(n_tomograms: int, *, n_slots: int, queue_for_steps: bool) -> int:
    """Tomograms per process where the user leaves it to us.

    Parameters
    ----------
    n_tomograms
        Tomograms that are waiting.
    n_slots
        Processes that can run side by side.
    queue_for_steps
        Whether every process is a job of its own: then one tomogram each, so that the queue can
        spread them.

    Returns
    -------
    int
        1 or more. Locally the model is loaded once per slot.
    """
    return 1 if queue_for_steps else max(1, math.ceil(n_tomograms / max(1, n_slots)))


def split(tsIds: Sequence[str], size: int) -> list[list[str]]:
    """Cut into lists of at most `size`, in order."""
    return [list(tsIds[start : start + size]) for start in range(0, len(tsIds), size)]
