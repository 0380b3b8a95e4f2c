"""Help with the parameters that are hard to type."""

from __future__ import annotations

from cryosiam_plugin.wizards.embedding_wizards import (
    CryosiamEmbeddingModelWizard,
    CryosiamParticleEdgeWizard,
)
from cryosiam_plugin.wizards.wizards import (
    CryosiamBoxWizard,
    CryosiamClassesWizard,
    CryosiamForegroundWizard,
    CryosiamMaskClassesWizard,
    CryosiamModelFileWizard,
    CryosiamTilesWizard,
)

__all__ = [
    "CryosiamBoxWizard",
    "CryosiamClassesWizard",
    "CryosiamEmbeddingModelWizard",
    "CryosiamForegroundWizard",
    "CryosiamMaskClassesWizard",
    "CryosiamModelFileWizard",
    "CryosiamParticleEdgeWizard",
    "CryosiamTilesWizard",
]
