"""Separation of instances: exact, in parallel, with memory bounded by the tomogram."""

from __future__ import annotations

from cryosiam_engine.separation.foreground import foreground_mask
from cryosiam_engine.separation.separate import separate, separate_in
from cryosiam_engine.separation.settings import SeparationSettings

__all__ = ["SeparationSettings", "foreground_mask", "separate", "separate_in"]
