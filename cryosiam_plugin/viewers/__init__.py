"""What Scipion opens to look at results: slices, the map of embeddings, learning curves."""

from __future__ import annotations

from cryosiam_plugin.viewers.viewer_map import CryosiamEmbeddingsViewer, CryosiamMapViewer
from cryosiam_plugin.viewers.viewer_slices import CryosiamOtherSetViewer as ZZCryosiamOtherSetViewer
from cryosiam_plugin.viewers.viewer_slices import CryosiamProtocolViewer

# Scipion offers the viewers of a class in the order of these names, and opens the first: ours
# comes first for our own outputs, and last for those of others.
from cryosiam_plugin.viewers.viewer_slices import CryosiamSetViewer as AAACryosiamSetViewer
from cryosiam_plugin.viewers.viewer_training import CryosiamTrainingViewer

__all__ = [
    "AAACryosiamSetViewer",
    "CryosiamEmbeddingsViewer",
    "CryosiamMapViewer",
    "CryosiamProtocolViewer",
    "CryosiamTrainingViewer",
    "ZZCryosiamOtherSetViewer",
]
