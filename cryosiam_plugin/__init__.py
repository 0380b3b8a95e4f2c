"""scipion-em-cryosiam: CryoSiam for cryo-electron tomography in Scipion."""

from __future__ import annotations

__version__ = "0.1.0"
