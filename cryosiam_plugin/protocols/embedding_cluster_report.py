"""What the clustering protocol says about its clusters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cryosiam_plugin.protocols.embedding_cluster_form import METHODS
from cryosiam_plugin.protocols.embedding_clusters import cluster_lines
from cryosiam_plugin.protocols.information import REFERENCE, counted
from cryosiam_plugin.protocols.part import ProtocolPart
from cryosiam_plugin.protocols.provenance import (
    configuration_sentence,
    engine_words,
    image_lines,
)


class ClusterReport(ProtocolPart):
    """Mixed into the clustering protocol; it has a String attribute `clusterRecord`."""

    if TYPE_CHECKING:

        def _mapLines(self) -> list[str]: ...

    def _record(self) -> dict[str, Any]:
        text = self.clusterRecord.get()
        return json.loads(text) if text else {}

    def _sizes(self) -> dict[int, int]:
        return {int(cluster): n for cluster, n in self._record().get("sizes", {}).items()}

    def _summary(self) -> list[str]:
        sizes = self._sizes()
        if not sizes:
            return ["No results yet."]
        found = sum(1 for cluster in sizes if cluster)
        total = counted(sum(sizes.values()), "particle")
        lines = [f"{total} in {counted(found, 'cluster')} ({METHODS[self.method.get()]})."]
        if not found:
            lines.append(
                "*No cluster was found.* Make the smallest cluster smaller, or take k-means or "
                "spectral clustering."
            )
        lines += cluster_lines(sizes)
        lines += image_lines(self._record())
        lines += [f"*Note*: {warning}" for warning in self._record().get("warnings", [])]
        return lines + self._mapLines()

    def _methods(self) -> list[str]:
        sizes = self._sizes()
        if not sizes:
            return []
        embeddings = self.inputEmbeddings.get()
        model = ""
        if embeddings is not None:
            digest = embeddings.getSha256() or "unknown"
            model = f" (model {embeddings.getModelName()}, SHA-256 {digest})"
        found = sum(1 for cluster in sizes if cluster)
        said = [
            f"The CryoSiam [{REFERENCE}] embeddings{model} of {sum(sizes.values())} particles were "
            f"clustered by {METHODS[self.method.get()]} into {found} clusters (seed "
            f"{self.seed.get()}), using {engine_words(self._record())}.",
            configuration_sentence(self._record()),
        ]
        return [sentence for sentence in said if sentence]

    def _citations(self) -> list[str]:
        return [REFERENCE]
