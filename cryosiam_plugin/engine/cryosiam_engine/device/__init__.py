"""Where and how the networks run: device, precision, threads, free memory."""

from __future__ import annotations

from cryosiam_engine.device.choice import (
    MissingGpu,
    choose_device,
    free_memory,
    is_out_of_memory,
    missing_gpu,
    unsupported_architecture,
)
from cryosiam_engine.device.convolution_check import SelfCheck, self_check
from cryosiam_engine.device.host import cpu_threads, memory_share, set_threads
from cryosiam_engine.device.precision import (
    Precision,
    ResolvedPrecision,
    apply_precision,
    known_bad,
    resolve_precision,
)

__all__ = [
    "MissingGpu",
    "Precision",
    "ResolvedPrecision",
    "SelfCheck",
    "apply_precision",
    "choose_device",
    "cpu_threads",
    "free_memory",
    "is_out_of_memory",
    "known_bad",
    "memory_share",
    "missing_gpu",
    "resolve_precision",
    "self_check",
    "set_threads",
    "unsupported_architecture",
]
