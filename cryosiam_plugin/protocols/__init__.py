"""The protocols that Scipion shows."""

from __future__ import annotations

from cryosiam_plugin.protocols.protocol_base import ProtCryosiamBase
from cryosiam_plugin.protocols.protocol_clusters import ProtCryosiamClusters
from cryosiam_plugin.protocols.protocol_denoise import ProtCryosiamDenoise
from cryosiam_plugin.protocols.protocol_embeddings import ProtCryosiamEmbeddings
from cryosiam_plugin.protocols.protocol_import_model import ProtCryosiamImportModel
from cryosiam_plugin.protocols.protocol_instance_filter import ProtCryosiamInstanceFilter
from cryosiam_plugin.protocols.protocol_instances import ProtCryosiamInstances
from cryosiam_plugin.protocols.protocol_lamella import ProtCryosiamLamella
from cryosiam_plugin.protocols.protocol_masks import ProtCryosiamMasksFromCoordinates
from cryosiam_plugin.protocols.protocol_particles import ProtCryosiamParticles
from cryosiam_plugin.protocols.protocol_selection import ProtCryosiamSelection
from cryosiam_plugin.protocols.protocol_semantic import ProtCryosiamSemantic
from cryosiam_plugin.protocols.protocol_train_semantic import ProtCryosiamTrainSemantic

__all__ = [
    "ProtCryosiamBase",
    "ProtCryosiamClusters",
    "ProtCryosiamDenoise",
    "ProtCryosiamEmbeddings",
    "ProtCryosiamImportModel",
    "ProtCryosiamInstanceFilter",
    "ProtCryosiamInstances",
    "ProtCryosiamLamella",
    "ProtCryosiamMasksFromCoordinates",
    "ProtCryosiamParticles",
    "ProtCryosiamSelection",
    "ProtCryosiamSemantic",
    "ProtCryosiamTrainSemantic",
]
