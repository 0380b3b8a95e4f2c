"""Which jobs of Scipion's queue a run has, in files: a Scipion that is killed forgets them."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cryosiam_plugin.slurm_core import write_json

#: Beside an engine process's own records.
SUFFIX = ".job"
#: A job's way: being submitted, in the queue, asked to end, not there any more.
SUBMITTING, QUEUED, CANCELLED, ENDED = "submitting", "queued", "cancelled", "ended"
_WRITING = threading.Lock()


@dataclass
class JobRecord:
    """One engine process as a job of the queue.

    Attributes
    ----------
    path
        Of the engine process's records, without suffix.
    command
        The engine's command, such as ``denoise_predict``.
    computes
        What decides the results, in short, by the tsIds that it works on. One entry without a
        tsId where a command is about all of them.
    logs
        The job's logs, without their endings.
    name
        By which the queue finds it again if its id was lost; empty where nothing says so.
    job_id
        The queue's; empty until it is known.
    state
        ``submitting``, ``queued``, ``cancelled`` or ``ended``.
    """

    path: Path
    command: str
    computes: dict[str, str] = field(default_factory=dict)
    logs: str = ""
    name: str = ""
    job_id: str = ""
    state: str = SUBMITTING

    @property
    def tsIds(self) -> list[str]:
        """The tomograms that it works on; none where it is about all."""
        return [tsId for tsId in self.computes if tsId]

    @property
    def is_live(self) -> bool:
        """Whether nothing says that it has ended."""
        return self.state != ENDED

    def overlaps(self, command: str, computes: dict[str, str]) -> bool:
        """Whether it works on something that is asked for."""
        return self.command == command and not self.computes.keys().isdisjoint(computes)

    def serves(self, computes: dict[str, str]) -> bool:
        """Whether what it computes is what is wanted of all that it shares with that."""
        shared = self.computes.keys() & computes.keys()
        return all(self.computes[tsId] == computes[tsId] != "" for tsId in shared)

    def note(self, state: str, job_id: str = "") -> None:
        """Write down what has become of it."""
        self.state = state
        self.job_id = job_id or self.job_id
        values = asdict(self)
        del values["path"]
        with _WRITING:  # two steps may wait for the same job
            write_json(self.path.with_suffix(SUFFIX), values)


def live_jobs(folder: Path) -> list[JobRecord]:
    """List the jobs of a run that may still be in the queue, in the order of their submission.

    Parameters
    ----------
    folder
        Of the engine processes' records.
    """
    found = []
    for file in Path(folder).glob(f"*{SUFFIX}"):
        try:
            values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            record = JobRecord(path=file.with_suffix(""), **values)
        except (OSError, ValueError, TypeError):
            continue  # of an older version, or of use to nobody
        if record.is_live:
            found.append(record)
    return sorted(found, key=lambda record: (len(record.path.name), record.path.name))
