"""How far a protocol's job arrays are, for its Summary: in files that any process can read."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Iterable, Sequence

from cryosiam_plugin.protocols.slurm_form import FORM
from cryosiam_plugin.protocols.slurm_refusals import NOT_SUBMITTED, fields_of_refusal
from cryosiam_plugin.slurm_core import (
    KILLED,
    LOGS,
    OUT_OF_MEMORY,
    Failure,
    Journal,
    Progress,
    SlurmRun,
    clock_time,
    remedy,
    write_json,
)

logger = logging.getLogger(__name__)

#: Beside the journal, which does not know what runs at the moment.
PROGRESS = "progress.json"
#: Arrays that are named before the others are only counted.
LISTED_IDS = 5
#: What a failure says where the engine itself gave the reason.
_ENGINE_ERROR = "engine error"


def write_progress(run: Path, progress: Progress) -> None:
    """Note how far a run is.

    Parameters
    ----------
    run
        The run's folder.
    progress
        As its follower has just seen it.
    """
    try:
        write_json(run / PROGRESS, {"seen": time.time(), **asdict(progress)})
    except OSError as error:
        # Nothing is decided by this file: without it there is less to read, and no less computed.
        logger.debug("How far %s is could not be written: %s", run, error)


def array_lines(arrays: Path, commands: Iterable[str], *, is_followed: bool) -> list[str]:
    """Say how far the arrays of a protocol are, with the last run of each of its commands.

    Parameters
    ----------
    arrays
        The folder with a folder for each command.
    commands
        In the order in which tomograms go through them.
    is_followed
        Whether the protocol is running.
    """
    lines = []
    for command in commands:
        runs = sorted((Path(arrays) / command).glob("run_*"))
        lines += _run_lines(runs[-1], is_followed=is_followed) if runs else []
    return lines


def _run_lines(run: Path, *, is_followed: bool) -> list[str]:
    try:
        journal = Journal.read(run)
        seen, progress = _read_progress(run)
    except (OSError, ValueError, TypeError):
        return []  # it has just been begun, or is of no use
    ids = [one.job_id for one in journal.submissions if one.job_id]
    failures = list(journal.failures.values())
    reasons = counted_reasons(failure.reason for failure in failures if failure.is_final)
    counts = [f"{progress.n_done} of {progress.n_tomograms} done"]
    if not progress.is_over:
        counts += [f"{progress.n_running} running", f"{progress.n_waiting} waiting"]
    counts.append(f"{progress.n_failed} failed" + (f" ({reasons})" if reasons else ""))
    name = f"Slurm {'arrays' if len(ids) > 1 else 'array'} {_few(ids) or 'not submitted'}"
    lines = [f"*{name}* ({journal.command}): {', '.join(counts)}."]
    again = tried_again(failures)
    if again:
        lines.append(f"Tried again: {again}.")
    refused = {failure.text for failure in failures if failure.reason == NOT_SUBMITTED}
    lines += [f"{text} {fields_of_refusal(text, FORM)}".strip() for text in sorted(refused)]
    lines += _time_lines(progress, seen, is_followed=is_followed)
    return [*lines, f"Logs: {shown(run)}"]


def _few(ids: Sequence[str]) -> str:
    rest = len(ids) - LISTED_IDS
    return ", ".join(ids[:LISTED_IDS]) + (f" and {rest} more" if rest > 0 else "")


def _time_lines(progress: Progress, seen: float, *, is_followed: bool) -> list[str]:
    parts = [f"{progress.seconds_each:.3g} s per tomogram"] if progress.seconds_each else []
    if progress.is_over:
        return [f"{parts[0]}."] if parts else []
    if progress.seconds_left is not None:
        parts.append(f"about {clock_time(progress.seconds_left)} left")
    if progress.problem:
        parts.append("the queue does not answer")
    elif progress.refusal:
        parts.append(f"Slurm takes no further jobs now: {progress.refusal}")
    elif progress.why_waiting and progress.n_waiting:
        parts.append(f"waiting for: {progress.why_waiting}")
    parts.append(f"seen {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seen))}")
    lines = [f"{'; '.join(parts)}."]
    if not is_followed:
        lines.append("Nobody collects the results at the moment: press _Continue_.")
    return lines


def _read_progress(run: Path) -> tuple[float, Progress]:
    values = json.loads((run / PROGRESS).read_text(encoding="utf-8"))
    return float(values.pop("seen")), Progress(**values)


def tried_again(failures: Iterable[Failure]) -> str:
    """Say how many further attempts there were, and why; empty if there were none."""
    reasons = []
    for failure in failures:
        reasons += failure.earlier + ([failure.reason] if failure.is_waiting else [])
    smaller = {reason: f"{reason}, with smaller tiles" for reason in (OUT_OF_MEMORY, KILLED)}
    return counted_reasons(smaller.get(reason, reason) for reason in reasons)


def counted_reasons(reasons: Iterable[str]) -> str:
    """Say how often there was which reason, the most frequent first.

    Examples
    --------
    >>> counted_reasons(["time limit", "killed", "time limit"])
    '2 time limit, 1 killed'
    """
    return ", ".join(f"{number} {reason}" for reason, number in Counter(reasons).most_common())


def shown(path: Path) -> str:
    """A path as a user of the project finds it."""
    try:
        return str(Path(path).absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def task_log(run: SlurmRun, tsId: str, failure: Failure) -> Path | None:
    """Where the task's log is in which a tomogram failed; None if it was in no task."""
    for submission in run.journal.submissions:
        tasks = run.plan_of(submission).tasks if submission.number == failure.array else []
        for number, task in enumerate(tasks):
            if any(item.stem == tsId for item in task):
                return run.array_folder(submission) / LOGS / f"{number}.log"
    return None


def explained(failure: Failure, log: Path | None = None) -> str:
    """Why Slurm gave no result, for somebody who sees Scipion's forms and no command line.

    Parameters
    ----------
    failure
        The tomogram's.
    log
        Of the task that it was computed in.
    """
    said = [
        failure.text if failure.reason == _ENGINE_ERROR else f"{failure.reason}. {failure.text}"
    ]
    if failure.reason == NOT_SUBMITTED:
        said.append(fields_of_refusal(failure.text, FORM))
    said.append(remedy(failure.reason, FORM))
    if failure.earlier:
        said.append(
            f"Tried {len(failure.earlier) + 1} times; before: {', '.join(failure.earlier)}."
        )
    if log is not None and log.exists():
        said.append(f"Log: {shown(log)}")
    return " ".join(part for part in said if part)
