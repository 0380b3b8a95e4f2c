"""A small simulator of cryo-electron tomograms with exact ground truth.

The names below are loaded on first use, so that ``cryosiam-engine --help`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryosiam_engine.simulation.output import write_simulation
    from cryosiam_engine.simulation.settings import SimulationSettings
    from cryosiam_engine.simulation.simulator import SimulatedTomogram, simulate

__all__ = ["SimulatedTomogram", "SimulationSettings", "simulate", "write_simulation"]

_HOMES = {
    "SimulatedTomogram": "simulator",
    "SimulationSettings": "settings",
    "simulate": "simulator",
    "write_simulation": "output",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
