"""Job arrays on Slurm: planned, submitted, followed, tried again; the status files are the truth.

Two programs use this: the command line ``cryosiam-engine slurm`` and the Scipion plugin, in whose
Python neither the engine's other modules nor Python 3.10 are to be had. Hence everything here is
written for Python 3.8 with its standard library alone and imports its neighbours relatively;
only `arguments`, `command`, `new_run`, `container` and `task` belong to the command line and know
the engine. `binds` and `image_digest`, what a container is told, are used without Slurm too.
"""

from __future__ import annotations
