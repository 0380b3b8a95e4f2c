"""Published checkpoints, read without running anything that they carry."""

from __future__ import annotations

from cryosiam_engine.checkpoint.cache import cache_folder
from cryosiam_engine.checkpoint.loading import Checkpoint, file_sha256, load_checkpoint

__all__ = ["Checkpoint", "cache_folder", "file_sha256", "load_checkpoint"]
