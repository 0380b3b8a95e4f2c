"""One engine process of a protocol: its command, its log in Scipion's log, how it ended."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import stat
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Collection, ContextManager

import psutil

from cryosiam_plugin.launcher import EngineCommand

logger = logging.getLogger(__name__)

#: Seconds between two looks at the engine's log.
RELAY_SECONDS = 1.0
#: Seconds that a forgotten engine is given to clean up before it is killed.
STOP_SECONDS = 20.0
_TAIL_CHARACTERS = 600
#: Of Slurm, PBS, LSF and Grid Engine.
_JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


@dataclass(frozen=True)
class ProcessEnd:
    """How an engine process ended; it only ever explains, the status files decide.

    Attributes
    ----------
    exit_code
        As the shell gives it; None where a queue keeps it to itself.
    last_words
        The end of what it wrote.
    job_end
        Why the queue's job that it was in ended before its time; empty otherwise.
    """

    exit_code: int | None
    last_words: str = ""
    job_end: str = ""

    @property
    def signal_number(self) -> int:
        """The signal that ended it; 0 where none did."""
        code = self.exit_code or 0
        return -code if code < 0 else max(code - 128, 0)

    @property
    def was_asked_to_stop(self) -> bool:
        """Whether somebody asked it to stop: a queue's time limit, a user."""
        # A job's end ends one of many: it is no wish that all be stopped.
        return not self.job_end and self.signal_number in (signal.SIGTERM, signal.SIGINT)

    @property
    def reason(self) -> str:
        """What the user should read."""
        if self.job_end:
            return self.job_end
        if self.signal_number == signal.SIGKILL:
            return (
                "it was killed, most often because memory ran out. Use smaller tomograms or "
                "fewer patches at once, or ask the queue for more memory."
            )
        code = "" if self.exit_code is None else f"exit code {self.exit_code}. "
        return f"{code}Its last words: {self.last_words or 'none'}"


def runEngine(
    command: EngineCommand, run_job: Callable[[str, str], Any], record: Path
) -> ProcessEnd:
    """Run an engine process to its end.

    Parameters
    ----------
    command
        The command.
    run_job
        Scipion's ``runJob``, for program and arguments.
    record
        Path without suffix: the command is kept as ``.sh``, the engine's messages as ``.log``.
    """
    log = record.with_suffix(".log")
    record_command(command, record.with_suffix(".sh"))
    log.touch()
    code: int | None = None
    with _Relay(log):
        try:
            # In a file, since under a queue the output of a job is not Scipion's.
            run_job(command.program, f"{command.arguments} >> {shlex.quote(str(log))} 2>&1")
        except subprocess.CalledProcessError as error:
            code = error.returncode
    return ProcessEnd(code, _tail(log))


def following(log: Path) -> ContextManager[Any]:
    """Copy to Scipion's log what an engine that runs already writes into its own from now on."""
    return _Relay(log, from_end=True)


def record_command(command: EngineCommand, path: Path) -> None:
    """Keep the command as a script that does the same again from a shell."""
    path.write_text(
        f"#!/bin/sh\ncd {shlex.quote(str(Path.cwd()))}\n{command.shell_line}\n", "utf-8"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def nextRecord(folder: Path) -> Path:
    """A path for a new process's records: ``engine_1``, ``engine_2``..., taken at once."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1_000_000):
        record = folder / f"engine_{number}"
        try:
            os.close(os.open(record.with_suffix(".log"), os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            continue
        return record
    raise OSError(f"{folder} is full of records.")


def stopForgottenEngines(config: Path, jobs: Collection[str] = ()) -> None:
    """End engine processes of this run that outlived the protocol's own process.

    A protocol that was killed alone leaves its engine behind, and two engines would write the
    same results. Only this machine is looked at; a queue's jobs are the queue's.

    Parameters
    ----------
    config
        The run's configuration, which the engine's command line names.
    jobs
        Ids of jobs of a queue, which are left alone even if they run here.
    """
    mine = [process for process in psutil.process_iter(["cmdline"]) if _runs(process, str(config))]
    mine = [process for process in mine if _job_of(process) not in jobs]
    for process in mine:
        logger.info("Stopping an engine (process %d) that an earlier run left.", process.pid)
        try:
            process.terminate()
        except psutil.Error:
            continue
    _, alive = psutil.wait_procs(mine, timeout=STOP_SECONDS)
    for process in alive:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(alive, timeout=STOP_SECONDS)


def _runs(process: psutil.Process, config: str) -> bool:
    words: list[str] = process.info["cmdline"] or []
    engine = any("cryosiam_engine" in word or "cryosiam-engine" in word for word in words)
    return engine and config in words and process.pid != os.getpid()


def _job_of(process: psutil.Process) -> str:
    """The queue's job that a process belongs to; empty where it says nothing."""
    try:
        environment = process.environ()
    except psutil.Error:
        return ""
    return next((environment[name] for name in _JOB_IDS if name in environment), "")


def _tail(log: Path) -> str:
    """The end of a log on one line, without the words that every line begins with."""
    try:
        text = log.read_bytes()[-20 * _TAIL_CHARACTERS :].decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [re.sub(r"^(INFO|WARNING|ERROR)\s+", "", line.strip()) for line in text.splitlines()]
    return " ".join(line for line in lines if line)[-_TAIL_CHARACTERS:]


class _Relay:
    """Copies what the engine writes to its log into Scipion's, line by line, as it comes."""

    def __init__(self, log: Path, *, from_end: bool = False) -> None:
        self._log = log
        self._position = log.stat().st_size if from_end and log.exists() else 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Relay:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._copy(everything=True)

    def _run(self) -> None:
        while not self._ended.wait(RELAY_SECONDS):
            self._copy()

    def _copy(self, *, everything: bool = False) -> None:
        try:
            with self._log.open("rb") as file:
                file.seek(self._position)
                text = file.read()
        except OSError:
            return
        whole = len(text) if everything else text.rfind(b"\n") + 1
        self._position += whole
        for line in text[:whole].decode("utf-8", "replace").splitlines():
            level, message = _level_of(line)
            logger.log(level, "engine: %s", message)


def _level_of(line: str) -> Any:
    """Split a line of the engine's log into its level and its message."""
    found = re.match(r"(INFO|WARNING|ERROR)\s+(.*)", line)
    return (getattr(logging, found.group(1)), found.group(2)) if found else (logging.INFO, line)
