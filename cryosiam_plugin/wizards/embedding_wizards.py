"""The wand icons of the form of embeddings."""

from __future__ import annotations

from typing import Any

from pwem.wizards import EmWizard

from cryosiam_plugin.protocols import ProtCryosiamEmbeddings
from cryosiam_plugin.wizards.wizards import CryosiamModelFileWizard


class CryosiamEmbeddingModelWizard(CryosiamModelFileWizard):
    """Choose a checkpoint for embeddings from the folder of models."""

    _targets = [(ProtCryosiamEmbeddings, ["modelFile"])]  # noqa: RUF012 - Scipion's own attribute


class CryosiamParticleEdgeWizard(EmWizard):
    """Take the edge of the cubes from the box size of the particles."""

    _targets = [(ProtCryosiamEmbeddings, ["particleEdge"])]  # noqa: RUF012

    def show(self, form: Any, *params: Any) -> None:
        """Set the edge, and say why."""
        protocol = form.protocol
        particles, tomograms = protocol.inputParticles.get(), protocol.inputTomograms.get()
        if particles is None or tomograms is None:
            form.showInfo("Give the particles and the tomograms first.", "Edge of the cube")
            return
        edge = protocol.suggestedEdge()
        form.setVar("particleEdge", edge)
        angstrom = edge * tomograms.getSamplingRate()
        form.showInfo(
            f"{edge} voxels ({angstrom:.0f} Å): the box size of the particles, in voxels of these "
            "tomograms, rounded up to an even number.",
            "Edge of the cube",
        )
