"""Slurm's own programs, and nothing else that talks to Slurm."""

from __future__ import annotations

import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from .errors import SlurmError
from .refusals import refusal
from .squeue import ENDED, FORMAT, ArrayView, TaskState, parse_squeue, parse_task_ids

#: Seconds after which one of Slurm's programs is given up for this time.
PATIENCE = 60

#: The same for sbatch, which waits by itself for 120 s where the table of jobs is full.
SUBMIT_PATIENCE = 180

#: Set by Slurm in a job: whoever submits from within a job does not hand its own limits on.
_KEPT_OF_SLURM = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_BITSTR_LEN")
#: Variables of sbatch that go by another name than their option.
_SBATCH_NAMES = {"time": "TIMELIMIT", "array": "ARRAY_INX", "mem": "MEM_PER_NODE"}


class SlurmPrograms:
    """``sbatch``, ``squeue``, ``scancel`` and their like.

    Attributes
    ----------
    n_looks
        How often squeue was run.
    """

    def __init__(self) -> None:
        self.n_looks = 0

    def submit(self, script: Path, options: Sequence[str] = ()) -> str:
        """Submit a script; the id of its job.

        Parameters
        ----------
        script
            The job script.
        options
            Of its directives, which the environment must not change.

        Raises
        ------
        SlurmError
            When Slurm refuses. If it is `passing`, and no `limit` was met, the job may even have
            been accepted.
        """
        environment = submit_environment(os.environ, script.read_text(encoding="utf-8"))
        words = ["sbatch", "--parsable", *options, script.name]
        answer = _run(words, cwd=script.parent, env=environment, patience=SUBMIT_PATIENCE)
        job_id = answer.strip().splitlines()[-1].split(";")[0] if answer.strip() else ""
        if not job_id.isdigit():
            raise SlurmError(f"sbatch answered '{answer.strip()}', which is no job.", passing=True)
        return job_id

    def look(self, names: Iterable[str]) -> dict[str, ArrayView]:
        """Ask once for all arrays of these names, those that have just ended included.

        Raises
        ------
        SlurmError
            When there is no answer.
        """
        self.n_looks += 1
        # Without it, long lists of waiting tasks are cut off.
        environment = {**os.environ, "SLURM_BITSTR_LEN": "0"}
        words = ["squeue", "--noheader", f"--user={os.getuid()}", f"--name={','.join(names)}"]
        return parse_squeue(_run([*words, "--states=all", f"--format={FORMAT}"], env=environment))

    def has_jobs(self) -> bool:
        """Whether any job of this user is in the queue, or none can be ruled out."""
        try:
            return bool(_run(["squeue", "--noheader", f"--user={os.getuid()}"]).strip())
        except SlurmError:
            return True

    def cancel(self, job_ids: Iterable[str] = (), name: str = "") -> None:
        """End jobs, by their ids or all of a name.

        Raises
        ------
        SlurmError
            When there is no answer. Jobs that have ended already are no error.
        """
        ids = list(job_ids)
        which = [ids] if ids else []
        which += [[f"--user={os.getuid()}", f"--name={name}"]] if name else []
        for words in which:
            try:
                _run(["scancel", "--quiet", *words])
            except SlurmError as error:
                # Some versions complain of what Slurm has forgotten; the others are cancelled.
                if not re.search("invalid job id", error.message, re.IGNORECASE):
                    raise

    def largest_array(self) -> int:
        """Tasks that an array of this cluster may have; 1000, Slurm's default, if it won't say."""
        try:
            return _largest_array()
        except SlurmError:
            return 1000

    def still_there(self, job_id: str) -> set[int]:
        """Ask the controller itself for tasks of which squeue says nothing.

        Returns
        -------
        set of int
            Those that wait or run.

        Raises
        ------
        SlurmError
            When there is no answer.
        """
        try:
            answer = _run(["scontrol", "--oneliner", "show", "job", job_id])
        except SlurmError as error:
            if error.passing:
                raise
            return set()  # it knows no such job
        alive: set[int] = set()
        for line in answer.splitlines():
            state, tasks = (
                re.search(rf" {key}=(\S+)", line) for key in ("JobState", "ArrayTaskId")
            )
            if state and tasks and state.group(1) not in ENDED:
                alive.update(parse_task_ids(tasks.group(1))[0])
        return alive

    def ended_as(self, job_id: str) -> dict[int, TaskState]:
        """What the accounting, where there is one, says about the tasks of an array."""
        words = ["sacct", "--noheader", "--parsable2", "--allocations", "--array"]
        try:
            answer = _run([*words, "--format=JobID,State,NodeList", f"--jobs={job_id}"])
        except SlurmError:
            return {}
        found: dict[int, TaskState] = {}
        for line in answer.splitlines():
            job, state, node = [*line.split("|"), "", ""][:3]
            # Such as "CANCELLED by 1000".
            ended = TaskState(state.partition(" ")[0].rstrip("+"), node=node)
            found.update(dict.fromkeys(parse_task_ids(job.partition("_")[2])[0], ended))
        return found


@lru_cache(maxsize=None)
def _largest_array() -> int:
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run(["scontrol", "show", "config"]), re.M)
    if not found:
        raise SlurmError("scontrol does not say what MaxArraySize is.")
    # Numbers begin at 0, and the largest one is less than MaxArraySize.
    return max(1, int(found.group(1)) - 1)


def submit_environment(environ: Mapping[str, str], script: str) -> dict[str, str]:
    """The environment for sbatch: nothing of a surrounding job, nothing that overrules the script.

    Parameters
    ----------
    environ
        Such as ``os.environ``.
    script
        The text that will be submitted.
    """
    given = re.findall(r"^#SBATCH --([a-z-]+)", script, re.M)
    overruled = {f"SBATCH_{name.upper().replace('-', '_')}" for name in given}
    overruled |= {f"SBATCH_{_SBATCH_NAMES[name]}" for name in given if name in _SBATCH_NAMES}
    overruled |= {"SBATCH_WAIT", "SBATCH_NO_REQUEUE", "SBATCH_ARRAY_INX"}
    return {
        name: value
        for name, value in environ.items()
        if name not in overruled
        and (name in _KEPT_OF_SLURM or not name.startswith(("SLURM_", "SLURMD_")))
    }


def _run(
    words: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> str:
    """Run a program of Slurm's and give its answer."""
    try:
        done = subprocess.run(  # noqa: S603
            list(words),
            cwd=None if cwd is None else str(cwd),
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{words[0]} did not answer in {patience} s.", passing=True) from None
    except OSError as error:
        raise SlurmError(
            f"{words[0]} cannot be run: {error.strerror or error}.",
            remedy="Use a computer from which jobs are submitted, with Slurm's programs in PATH.",
        ) from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise refusal(words[0], said or f"exit code {done.returncode}")
    return done.stdout.decode("utf-8", "replace")
