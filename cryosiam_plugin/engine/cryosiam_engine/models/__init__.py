"""Models: the published and the built-in ones, and how they get to this machine.

Nothing here imports PyTorch: the command line lists, downloads and verifies without it.
"""

from __future__ import annotations

from cryosiam_engine.models.built_in import BuiltInModel, built_in_models, find_built_in
from cryosiam_engine.models.listing import format_table, model_path, to_json
from cryosiam_engine.models.registry import (
    PublishedModel,
    Task,
    find_model,
    models_folder,
    published_models,
)

__all__ = [
    "BuiltInModel",
    "PublishedModel",
    "Task",
    "built_in_models",
    "find_built_in",
    "find_model",
    "format_table",
    "model_path",
    "models_folder",
    "published_models",
    "to_json",
]
