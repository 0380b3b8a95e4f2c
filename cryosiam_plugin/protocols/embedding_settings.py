"""From the form of the embeddings protocol to the engine's configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tomo.objects import SetOfSubTomograms

from cryosiam_plugin.convert.embeddings import coordinates_sampling_rate
from cryosiam_plugin.protocols.embedding_form import AS_TRAINED, FROM_PARTICLES, MASKING_TYPES
from cryosiam_plugin.protocols.model_choice import chosenModel
from cryosiam_plugin.protocols.run_configuration import RunConfiguration

#: Edge of a cube without any set to ask.
ANY_BOX = 32


class EmbeddingSettings(RunConfiguration):
    """Mixed into the embeddings protocol, before its base."""

    def _fromParticles(self) -> bool:
        return self.source.get() == FROM_PARTICLES

    def _coordinatesRate(self) -> float:
        return coordinates_sampling_rate(self.inputParticles.get())

    def _edge(self) -> int:
        """Of the cube around a particle, in voxels of the tomograms."""
        return self.particleEdge.get() or self.suggestedEdge()

    def suggestedEdge(self) -> int:
        """The box size of the particles in voxels of the tomograms; even."""
        particles, tomograms = self.inputParticles.get(), self.inputTomograms.get()
        if particles is None or tomograms is None:
            return ANY_BOX
        if isinstance(particles, SetOfSubTomograms):
            box, rate = particles.getDim()[0], particles.getSamplingRate()
        else:
            box, rate = particles.getBoxSize() or ANY_BOX, particles.getSamplingRate()
        return max(2, 2 * math.ceil(box * rate / tomograms.getSamplingRate() / 2 - 1e-3))

    def _centersFolder(self) -> str:
        return str(Path(self._getExtraPath("centers")).absolute())

    def _centersFile(self) -> str:
        return str(Path(self._getExtraPath("centers.csv")).absolute())

    def _configuration(self) -> dict[str, Any]:
        keys = super()._configuration()
        keys.pop("mask_folder", None)
        edge = self.patchSize.get()
        data = {"patch_size": [edge, edge, edge]}
        data.update(chosenModel(self).required.get("parameters", {}).get("data", {}))
        keys.setdefault("parameters", {})["data"] = data
        return keys

    def _configurationKeys(self) -> dict[str, Any]:
        contrastive = chosenModel(self).required.get("contrastive", self.contrastive.get())
        keys: dict[str, Any] = {"contrastive": bool(contrastive)}
        if self._fromParticles():
            return {
                **keys,
                "centers_file": self._centersFile(),
                "centers_patch_size": self._edge(),
            }
        return {
            **keys,
            "instances_mask_folder": self._maskFolder(),
            "masking_type": self._maskingType(),
            "expand_labels": float(self.expandLabels.get()),
            "min_particle_size": self.minimumVoxels.get() or None,
            "max_particle_size": self.maximumVoxels.get() or None,
        }

    def _maskingType(self) -> int | None:
        """The engine's number; None where nobody knows it."""
        if self.masking.get() != AS_TRAINED:
            return MASKING_TYPES[self.masking.get()]
        return self._trainedMasking()

    def _trainedMasking(self) -> int | None:
        """Of the chosen model, if it is a published or a built-in one."""
        name, plugin = Path(chosenModel(self).path).name, self.getClassPackage().Plugin
        known = [*plugin.publishedModels(), *plugin.builtInModels()]
        return next((model.masking_type for model in known if model.file == name), None)
