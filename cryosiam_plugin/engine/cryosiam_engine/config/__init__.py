"""The YAML configuration of a run: CryoSiam's own keys, validated."""

from __future__ import annotations

from cryosiam_engine.config.base import DenseConfig, Intensity, RunConfig
from cryosiam_engine.config.clustering import (
    ClusteringConfig,
    HdbscanConfig,
    KmeansConfig,
    SpectralConfig,
    VisualizationConfig,
)
from cryosiam_engine.config.denoising import DenoiseConfig
from cryosiam_engine.config.embedding_map import EmbeddingMapConfig
from cryosiam_engine.config.embeddings import (
    CenterEmbeddingsConfig,
    EmbeddingConfig,
    EmbeddingsConfig,
)
from cryosiam_engine.config.instances import InstanceConfig, InstanceFilterConfig
from cryosiam_engine.config.keys import validate_keys
from cryosiam_engine.config.loading import CONFIGS, load_config
from cryosiam_engine.config.semantic import CentersConfig, PostprocessingConfig, SemanticConfig
from cryosiam_engine.config.tomogram_list import list_tomograms, stem_of, written_extension
from cryosiam_engine.config.yaml_file import read_yaml

__all__ = [
    "CONFIGS",
    "CenterEmbeddingsConfig",
    "CentersConfig",
    "ClusteringConfig",
    "DenoiseConfig",
    "DenseConfig",
    "EmbeddingConfig",
    "EmbeddingMapConfig",
    "EmbeddingsConfig",
    "HdbscanConfig",
    "InstanceConfig",
    "InstanceFilterConfig",
    "Intensity",
    "KmeansConfig",
    "PostprocessingConfig",
    "RunConfig",
    "SemanticConfig",
    "SpectralConfig",
    "VisualizationConfig",
    "list_tomograms",
    "load_config",
    "read_yaml",
    "stem_of",
    "validate_keys",
    "written_extension",
]
