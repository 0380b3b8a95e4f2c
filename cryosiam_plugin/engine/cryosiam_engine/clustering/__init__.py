"""From embeddings to clusters, and to maps of them."""

from __future__ import annotations

from cryosiam_engine.clustering.map_request import MapRequest, PageWriter

__all__ = ["MapRequest", "PageWriter"]
