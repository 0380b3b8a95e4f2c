"""Help with the parameters that are hard to type."""

from __future__ import annotations

from cryosiam_plugin.wizards.wizards import (
    CryosiamClassesWizard,
    CryosiamModelFileWizard,
    CryosiamTilesWizard,
)

__all__ = ["CryosiamClassesWizard", "CryosiamModelFileWizard", "CryosiamTilesWizard"]
