"""The CryoSiam inference engine: what the bundled command line ``cryosiam-engine`` runs."""

from __future__ import annotations

__version__ = "0.1.0"
