"""The commands of Scipion's hosts.conf: submit a job, ask for it, cancel it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, Mapping

from pyworkflow.protocol.constants import STATUS_RUNNING
from pyworkflow.protocol.launch import _checkJobStatus

from cryosiam_plugin.slurm_core import (
    ENDED,
    SlurmError,
    SlurmPrograms,
    refusal,
    submit_environment,
)

#: Seconds after which a command of the queue is given up for this time.
PATIENCE = 120.0


class QueueCommands:
    """What `hosts.conf` says about the queue, whichever it is.

    Parameters
    ----------
    host
        Scipion's configuration of this host.
    """

    def __init__(self, host: Any) -> None:
        self._host = host

    def script(self, values: Mapping[str, Any]) -> str:
        """The text of a job's script.

        Parameters
        ----------
        values
            What the template names, as ``JOB_COMMAND``.

        Raises
        ------
        SlurmError
            When the template cannot be filled in.
        """
        return f"{self._filled(self._host.getSubmitTemplate(), values)}\n\n"

    def submit(self, values: Mapping[str, Any]) -> str:
        """Submit a job; its id.

        Parameters
        ----------
        values
            As for :meth:`script`, which is in the file ``JOB_SCRIPT``.

        Raises
        ------
        SlurmError
            When the queue refuses, with its own words. If it is `passing`, and no `limit` was met,
            the job may even have been accepted.
        """
        command = self._filled(self._host.getSubmitCommand(), values)
        text = Path(values["JOB_SCRIPT"]).read_text(encoding="utf-8")
        done = _shell(command, env=submit_environment(os.environ, text))
        found = re.search(r"\d+", done.stdout)
        if done.returncode == 0 and found:
            return found.group()
        said = f"{done.stderr}\n{done.stdout}".strip()
        raise refusal("The queue", said or f"exit code {done.returncode}")

    def is_there(self, job_id: str) -> bool:
        """Whether a job waits or runs, as far as the queue says.

        Raises
        ------
        SlurmError
            When this Scipion knows no queue.
        """
        try:
            return bool(_checkJobStatus(self._host, job_id) == STATUS_RUNNING)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SlurmError(
                f"Scipion's hosts.conf does not say how to ask for job {job_id}."
            ) from error

    def ended_as(self, job_id: str) -> str:
        """Slurm's word for how a job has ended; empty where it has forgotten it, or is none."""
        if shutil.which("squeue") is None:
            return ""
        words = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"]
        try:
            found = _shell(shlex.join(words)).stdout.split()
        except SlurmError:
            return ""
        return found[0] if found and found[0] in ENDED else ""

    def cancel(self, job_id: str) -> None:
        """End a job; one that has ended already is no error.

        Raises
        ------
        SlurmError
            When the queue does not answer.
        """
        done = _shell(self._filled(self._host.getCancelCommand(), {"JOB_ID": job_id}))
        if done.returncode and self.is_there(job_id):
            said = " ".join(done.stderr.split())
            raise SlurmError(f"Job {job_id} could not be cancelled: {said}", passing=True)

    def find(self, name: str) -> str:
        """The id of the job with a name, whether it has ended or not; empty if there is none.

        Raises
        ------
        SlurmError
            When the queue does not answer.
        """
        if not name or shutil.which("squeue") is None:
            return ""
        view = SlurmPrograms().look([name])
        return view[name].job_id if name in view else ""

    def _filled(self, template: str, values: Mapping[str, Any]) -> str:
        try:
            return str(template % values)
        except (KeyError, TypeError, ValueError) as error:
            raise SlurmError(
                f"Scipion's hosts.conf asks for what there is not: {error}.",
                remedy="Compare it with templates/hosts.slurm.conf of this plugin.",
            ) from error


def name_in(script: str) -> str:
    """The name that a script for Slurm gives its job; empty if it gives none."""
    found = re.search(r"^#SBATCH\s+(?:--job-name[= ]|-J\s*)\s*(\S+)", script, re.M)
    return found.group(1) if found else ""


def within(seconds: float, action: Callable[[], None]) -> bool:
    """Do something that may hang, and wait so long for it.

    Returns
    -------
    bool
        Whether it has been done. Else it goes on behind the caller's back.

    Raises
    ------
    Exception
        As the action.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            action()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    return not thread.is_alive()


def _shell(command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line of hosts.conf, as Scipion does, but not for ever."""
    with subprocess.Popen(  # noqa: S602 - it is a line for a shell
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=None if env is None else dict(env),
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise SlurmError(
                f"The queue did not answer in {PATIENCE:.0f} s.", passing=True
            ) from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)
