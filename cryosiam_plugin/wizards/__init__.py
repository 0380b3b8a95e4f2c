"""Help with the parameters that are hard to type."""

from __future__ import annotations

from cryosiam_plugin.wizards.embedding_wizards import (
    CryosiamEmbeddingModelWizard,
    CryosiamParticleEdgeWizard,
)
from cryosiam_plugin.wizards.mask_wizards import (
    CryosiamMaskRadiusWizard,
    CryosiamMaskThresholdWizard,
)
from cryosiam_plugin.wizards.training_wizards import (
    CryosiamClassNamesWizard,
    CryosiamTrainingModelWizard,
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
    "CryosiamClassNamesWizard",
    "CryosiamClassesWizard",
    "CryosiamEmbeddingModelWizard",
    "CryosiamForegroundWizard",
    "CryosiamMaskClassesWizard",
    "CryosiamMaskRadiusWizard",
    "CryosiamMaskThresholdWizard",
    "CryosiamModelFileWizard",
    "CryosiamParticleEdgeWizard",
    "CryosiamTilesWizard",
    "CryosiamTrainingModelWizard",
]
