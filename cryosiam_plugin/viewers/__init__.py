"""What Scipion opens to look at results: the slice viewer, and the map of embeddings."""

from __future__ import annotations

from cryosiam_plugin.viewers.viewer_map import CryosiamEmbeddingsViewer, CryosiamMapViewer
from cryosiam_plugin.viewers.viewer_slices import CryosiamOtherSetViewer as ZZCryosiamOtherSetViewer
from cryosiam_plugin.viewers.viewer_slices import CryosiamProtocolViewer

# Scipion offers the viewers of a class in the order of these names, and opens the first: ours
# comes first for our own outputs, and last for those of others.
from cryosiam_plugin.viewers.viewer_slices import CryosiamSetViewer as AAACryosiamSetViewer

__all__ = [
    "AAACryosiamSetViewer",
    "CryosiamEmbeddingsViewer",
    "CryosiamMapViewer",
    "CryosiamProtocolViewer",
    "ZZCryosiamOtherSetViewer",
]
