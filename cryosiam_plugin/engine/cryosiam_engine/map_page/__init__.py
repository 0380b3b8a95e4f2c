"""The interactive map of embeddings: one web page that needs neither a network nor a server."""

from __future__ import annotations

from cryosiam_engine.map_page.data import MapData
from cryosiam_engine.map_page.thumbnails import Thumbnails
from cryosiam_engine.map_page.writer import EMBED_BYTES, write_map

__all__ = ["EMBED_BYTES", "MapData", "Thumbnails", "write_map"]
