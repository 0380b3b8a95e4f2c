"""The first minutes: simulated tomograms through every step, with scores and pictures."""

from __future__ import annotations

from cryosiam_engine.demo.command import run

__all__ = ["run"]
