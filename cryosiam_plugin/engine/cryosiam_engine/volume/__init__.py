"""Tomograms and label volumes as MRC files."""

from __future__ import annotations

from cryosiam_engine.volume.checks import check_values
from cryosiam_engine.volume.header import VolumeHeader
from cryosiam_engine.volume.reading import Volume, read_header, read_volume
from cryosiam_engine.volume.writing import write_mrc, write_mrc_like

__all__ = [
    "Volume",
    "VolumeHeader",
    "check_values",
    "read_header",
    "read_volume",
    "write_mrc",
    "write_mrc_like",
]
