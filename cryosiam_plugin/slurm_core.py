"""The engine's code for job arrays and containers, for the host: one copy of it, two users.

The engine itself cannot be imported here: it needs a newer Python, and other packages. Its
``slurm`` folder needs neither. It becomes a part of this plugin under the plugin's own name, so
that no ``cryosiam_engine`` gets into Scipion's Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

# A module with a __path__ is a package: its modules are looked for there.
__path__ = [str(Path(__file__).parent / "engine" / "cryosiam_engine" / "slurm")]

if TYPE_CHECKING:
    from cryosiam_engine.slurm.binds import BindError, bind_options, bind_paths
    from cryosiam_engine.slurm.errors import SlurmError
    from cryosiam_engine.slurm.files import last_words, only_one, write_json
    from cryosiam_engine.slurm.follower import Follower, Poll, poll_interval
    from cryosiam_engine.slurm.image_digest import image_variables
    from cryosiam_engine.slurm.journal import Failure, Journal
    from cryosiam_engine.slurm.plan import Item
    from cryosiam_engine.slurm.programs import SlurmPrograms, submit_environment
    from cryosiam_engine.slurm.progress import Progress, clock_time, in_words
    from cryosiam_engine.slurm.reasons import (
        KILLED,
        OUT_OF_MEMORY,
        TaskEnd,
        Words,
        judge_end,
        remedy,
    )
    from cryosiam_engine.slurm.refusals import advice, refusal
    from cryosiam_engine.slurm.retries import retry_failed
    from cryosiam_engine.slurm.run import LOCK, SlurmRun
    from cryosiam_engine.slurm.script import LOGS
    from cryosiam_engine.slurm.settings import JobSettings
    from cryosiam_engine.slurm.squeue import ENDED
else:
    from cryosiam_plugin.slurm_core.binds import BindError, bind_options, bind_paths
    from cryosiam_plugin.slurm_core.errors import SlurmError
    from cryosiam_plugin.slurm_core.files import last_words, only_one, write_json
    from cryosiam_plugin.slurm_core.follower import Follower, Poll, poll_interval
    from cryosiam_plugin.slurm_core.image_digest import image_variables
    from cryosiam_plugin.slurm_core.journal import Failure, Journal
    from cryosiam_plugin.slurm_core.plan import Item
    from cryosiam_plugin.slurm_core.programs import SlurmPrograms, submit_environment
    from cryosiam_plugin.slurm_core.progress import Progress, clock_time, in_words
    from cryosiam_plugin.slurm_core.reasons import (
        KILLED,
        OUT_OF_MEMORY,
        TaskEnd,
        Words,
        judge_end,
        remedy,
    )
    from cryosiam_plugin.slurm_core.refusals import advice, refusal
    from cryosiam_plugin.slurm_core.retries import retry_failed
    from cryosiam_plugin.slurm_core.run import LOCK, SlurmRun
    from cryosiam_plugin.slurm_core.script import LOGS
    from cryosiam_plugin.slurm_core.settings import JobSettings
    from cryosiam_plugin.slurm_core.squeue import ENDED

__all__ = [
    "ENDED",
    "KILLED",
    "LOCK",
    "LOGS",
    "OUT_OF_MEMORY",
    "BindError",
    "Failure",
    "Follower",
    "Item",
    "JobSettings",
    "Journal",
    "Poll",
    "Progress",
    "SlurmError",
    "SlurmPrograms",
    "SlurmRun",
    "TaskEnd",
    "Words",
    "advice",
    "bind_options",
    "bind_paths",
    "clock_time",
    "image_variables",
    "in_words",
    "judge_end",
    "last_words",
    "only_one",
    "poll_interval",
    "refusal",
    "remedy",
    "retry_failed",
    "submit_environment",
    "write_json",
]
