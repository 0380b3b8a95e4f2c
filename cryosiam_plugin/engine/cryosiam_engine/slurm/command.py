"""``cryosiam-engine slurm``: submit, follow, look, cancel, try again."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryosiam_engine.errors import BusyError, ConfigurationError, EngineError
from cryosiam_engine.files import output_error
from cryosiam_engine.slurm.ending import settle_ended
from cryosiam_engine.slurm.errors import SlurmError
from cryosiam_engine.slurm.files import only_one
from cryosiam_engine.slurm.follower import Follower
from cryosiam_engine.slurm.journal import JOURNAL
from cryosiam_engine.slurm.live import LiveTable
from cryosiam_engine.slurm.new_run import RUNS, begun, new_run
from cryosiam_engine.slurm.progress import in_words
from cryosiam_engine.slurm.reasons import Words, remedy
from cryosiam_engine.slurm.refusals import advice
from cryosiam_engine.slurm.retries import retry_failed
from cryosiam_engine.slurm.run import LOCK, SlurmRun
from cryosiam_engine.slurm.submitting import submit_planned

logger = logging.getLogger(__name__)

#: Exit code of who was stopped by Ctrl-C.
STOPPED = 128 + 2

#: What the reasons of failures are about, as this command's options are called.
WORDS = Words(
    memory="--mem",
    time="--time",
    per_task="--tomograms-per-task",
    partition="--partition",
    qos="--qos",
    options="--sbatch-option",
    again="'cryosiam-engine slurm retry-failed'",
    account="--account",
    gpus="--gres",
    cpus="--cpus",
)


def submit(args: argparse.Namespace) -> int:
    """Submit the command that `args` names for all its tomograms, and follow it.

    Returns
    -------
    int
        0: all done (or, with ``--detach``, submitted); 1: some tomograms failed.

    Raises
    ------
    EngineError
        When the configuration is wrong, or Slurm refuses.
    """
    with _slurm_errors():
        run = new_run(args)
    logger.info("The run's folder: %s", run.folder)
    return _go(run, detach=args.detach)


def follow_up(args: argparse.Namespace) -> int:
    """Do what `args` says with a run that was submitted before.

    Returns
    -------
    int
        0: all done, or nothing failed so far; 1: some tomograms failed.

    Raises
    ------
    EngineError
        When there is no such run, somebody follows it already, or Slurm does not answer.
    """
    folder = _find_run(Path(args.folder))
    try:
        with _slurm_errors():
            return _do(args, SlurmRun.open(folder, is_read_only=args.job == "status"))
    except KeyboardInterrupt:
        logger.warning("Stopped. Look with: cryosiam-engine slurm status %s", folder)
        return STOPPED


def _do(args: argparse.Namespace, run: SlurmRun) -> int:
    if args.job == "status":
        return _tell(run)
    if args.job == "cancel":
        return _cancel(run)
    if args.job == "follow":
        return _go(run, detach=False)
    with _lock(run):
        settle_ended(run)
        count = retry_failed(run)
    logger.info("%d tomograms are computed once more.", count)
    return _go(run, detach=args.detach)


def _tell(run: SlurmRun) -> int:
    progress = Follower(run).poll().progress
    sys.stdout.write(f"{run.folder}\n{in_words(progress)}\n")
    _report_failures(run)
    waiting = sum(failure.is_waiting for failure in run.journal.failures.values())
    if waiting:
        sys.stdout.write(
            f"{waiting} ended without a result, to be tried again as soon as somebody follows: "
            f"cryosiam-engine slurm follow {run.folder}\n"
        )
    return int(progress.n_failed > 0)


def _cancel(run: SlurmRun) -> int:
    run.cancel()
    with only_one(run.folder / LOCK) as is_mine:
        if not is_mine:
            logger.info("Cancelled; whoever follows the run sees to the rest.")
            return 0
        # It may have been written by a follower until a moment ago.
        run = SlurmRun.open(run.folder)
        settle_ended(run)
    n_failed = sum(failure.is_final for failure in run.journal.failures.values())
    logger.info(
        "Cancelled, with %d tomograms that have no result. To compute these after all: "
        "cryosiam-engine slurm retry-failed %s",
        n_failed,
        run.folder,
    )
    return 0


def _go(run: SlurmRun, *, detach: bool) -> int:
    """Submit a run, and follow it to its end unless it is left alone."""
    try:
        with _slurm_errors(), _lock(run):
            if detach:
                return _leave(run)
            _follow(run)
    except KeyboardInterrupt:
        logger.warning("The array goes on; nobody follows it any more. %s", _goes_on(run))
        return STOPPED
    _report_failures(run)
    return int(any(failure.is_final for failure in run.journal.failures.values()))


def _leave(run: SlurmRun) -> int:
    try:
        submit_planned(run)
    except SlurmError as error:
        if not error.passing:
            raise
        raise SlurmError(error.message, remedy=f"What is left: {_goes_on(run)}") from error
    ids = " ".join(one.job_id for one in run.journal.active)
    logger.info("Submitted: %s. %s", ids, _goes_on(run))
    return 0


def _goes_on(run: SlurmRun) -> str:
    return f"Go on, or cancel: cryosiam-engine slurm follow|cancel {run.folder}"


def _follow(run: SlurmRun) -> None:
    follower = Follower(run)
    with LiveTable() as table:
        while True:
            poll = follower.poll()
            for stem, failure in poll.failed.items():
                text = f"{failure.text} {remedy(failure.reason, WORDS)}".strip()
                table.say(f"{stem}: failed ({failure.reason}): {text}")
            table.show(poll.progress)
            if poll.is_over:
                return
            time.sleep(follower.interval)


def _report_failures(run: SlurmRun) -> None:
    failed = {s: f for s, f in run.journal.failures.items() if f.is_final}
    if failed:
        logger.warning(
            "%d failed: %s. Once more: cryosiam-engine slurm retry-failed %s",
            len(failed),
            ", ".join(f"{stem} ({failure.reason})" for stem, failure in failed.items()),
            run.folder,
        )


def _find_run(folder: Path) -> Path:
    """The run's folder, given it or the prediction folder."""
    if (folder / JOURNAL).is_file():
        return folder
    runs = [path.parent for path in (folder / RUNS).glob(f"*/{JOURNAL}")]
    if not runs:
        raise ConfigurationError(
            f"{folder} has no run on Slurm.",
            remedy="Give the folder that 'cryosiam-engine slurm' has named, or prediction_folder.",
        )
    return max(runs, key=begun)


@contextmanager
def _lock(run: SlurmRun) -> Iterator[None]:
    with only_one(run.folder / LOCK) as is_mine:
        if not is_mine:
            raise BusyError(
                f"{run.folder} is followed by another process already.",
                remedy="Look with 'cryosiam-engine slurm status', or end the other process.",
            )
        yield


@contextmanager
def _slurm_errors() -> Iterator[None]:
    """Turn errors of Slurm and of its files into the engine's."""
    try:
        yield
    except SlurmError as error:
        raise EngineError(error.message, remedy=advice(error, WORDS)) from error
    except (EngineError, BrokenPipeError):
        raise
    except ValueError as error:
        raise ConfigurationError(str(error), remedy="Submit anew.") from error
    except OSError as error:
        raise output_error(error, Path(error.filename or "the run's folder")) from error
