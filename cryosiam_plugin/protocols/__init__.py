"""The protocols that Scipion shows."""

from __future__ import annotations

from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase
from cryosiam_plugin.protocols.protocol_denoise import ProtCryosiamDenoise
from cryosiam_plugin.protocols.protocol_import_model import ProtCryosiamImportModel
from cryosiam_plugin.protocols.protocol_lamella import ProtCryosiamLamella
from cryosiam_plugin.protocols.protocol_particles import ProtCryosiamParticles
from cryosiam_plugin.protocols.protocol_semantic import ProtCryosiamSemantic

__all__ = [
    "ProtCryosiamBase",
    "ProtCryosiamDenoise",
    "ProtCryosiamImportModel",
    "ProtCryosiamLamella",
    "ProtCryosiamParticles",
    "ProtCryosiamSemantic",
]
