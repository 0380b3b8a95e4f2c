"""Runs of a stand-in engine on the real Slurm, for the drills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryosiam_engine.slurm.follower import Follower, Poll
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.slurm.plan import Item
from cryosiam_engine.slurm.run import SlurmRun
from cryosiam_engine.slurm.settings import JobSettings

STAND_IN = Path(__file__).with_name("stand_in_engine.py")
#: What a drill waits for.
Condition = Callable[[], object]


class Cluster:
    """A run on the real Slurm, followed by the test; the engine is a stand-in by default."""

    def __init__(self, place: Path, deeds: dict[str, str], **journal: object) -> None:
        self.place = place
        self.status = place / "status"
        settings = journal.pop("settings", JobSettings(memory="100M", cpus=1))
        values = {
            "name": f"stand-in-{os.getpid()}-{time.monotonic_ns()}",
            "command": "stand_in",
            "options": [],
            "engine": f"{sys.executable} -I {STAND_IN}",
            "work_folder": str(place),
            "status_folder": str(self.status),
            "settings": settings,
            **journal,
        }
        items = [Item(stem, deed) for stem, deed in deeds.items()]
        self.run = SlurmRun.create(place / "run", Journal(**values), items)
        self.follower = Follower(self.run, grace=3)
        self.done: list[str] = []
        self.is_over = False

    def poll(self) -> Poll:
        poll = self.follower.poll()
        self.done += poll.done
        self.is_over = poll.is_over
        return poll

    def until(self, what: Condition, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.story()
            time.sleep(0.3)
            self.poll()

    def finish(self, seconds: float = 90) -> None:
        """Follow to the end; then nothing may be left behind."""
        for what in self.finished():
            self.until(what, seconds)

    def finished(self) -> Iterator[Condition]:
        """The same for a drill that others run beside."""
        self.is_over = False
        yield lambda: self.is_over
        assert self.jobs() == "", "a job was left behind"
        assert not list(self.place.rglob("*.partial-*")), "half-written files"

    def jobs(self) -> str:
        """Jobs of this run that have not ended."""
        names = ",".join(one.name for one in self.run.journal.submissions)
        words = ["squeue", "-h", f"--name={names}", "--format=%i %T %r"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    def job(self, task: int, array: int = 1) -> str:
        return f"{self.run.journal.submissions[array - 1].job_id}_{task}"

    def script(self, array: int = 1) -> Path:
        return self.run.array_folder(self.run.journal.submissions[array - 1]) / "job.sh"

    def log(self, task: int, array: int = 1) -> str:
        return (self.script(array).parent / "logs" / f"{task}.log").read_text()

    def noted(self, stem: str) -> list[dict[str, Any]]:
        """What the engine noted at each beginning and each end of the tomogram."""
        path = self.place / f"{stem}.started"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def starts(self, stem: str) -> list[dict[str, Any]]:
        return [line for line in self.noted(stem) if "began" in line]

    def ends(self, stem: str) -> list[dict[str, Any]]:
        """Those at which it had a result."""
        return [line for line in self.noted(stem) if line.get("interrupted") is False]

    def interruptions(self, stem: str) -> int:
        return sum(line.get("interrupted", False) for line in self.noted(stem))

    def begun(self, *stems: str) -> Condition:
        return lambda: all(self.starts(stem) for stem in stems)

    def node(self, stem: str) -> str:
        """Where the engine last began with the tomogram."""
        return str(self.starts(stem)[-1]["node"])

    def reasons(self) -> dict[str, str]:
        failures = self.run.journal.failures.items()
        return {stem: failure.reason for stem, failure in failures if failure.is_final}

    def earlier(self, stem: str) -> list[str]:
        return self.run.journal.failures[stem].earlier

    def story(self) -> str:
        logs = sorted((self.place / "run").glob("array_*/logs/*.log"))
        return f"{self.jobs()}\n{self.run.journal}\n" + "\n".join(
            f"{log}: {log.read_text()}" for log in logs
        )
