"""One task of an array, on its node: the engine's command on its own tomograms."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from cryosiam_engine.errors import ConfigurationError, Interrupted
from cryosiam_engine.slurm.plan import ArrayPlan, Item
from cryosiam_engine.slurm.statuses import DONE, FAILED, is_newer, is_whole, read_status
from cryosiam_engine.status import Status, write_status

logger = logging.getLogger(__name__)

#: Exit code of a training that was asked to pause: there is more to do.
UNFINISHED = 75

#: Stands for all tomograms where a command takes them together.
ALL_TOMOGRAMS = "all_tomograms"


def run_task(file: str | Path) -> int:
    """Run the task that ``SLURM_ARRAY_TASK_ID`` names.

    Parameters
    ----------
    file
        The array's plan.

    Returns
    -------
    int
        The exit code of the engine's command, or 75 when it is to be continued.

    Raises
    ------
    EngineError, Interrupted
        As the engine's command.
    """
    path = Path(file)
    plan, number = _read(path)
    restarts = _number("SLURM_RESTART_COUNT")
    items = list(plan.tasks[number])
    if restarts:
        # What this task brought to an end before it was queued again.
        began = path.stat().st_mtime
        items = [item for item in items if not _is_through(plan, item, began)]
    if not items:
        logger.info("All tomograms of this task are finished already.")
        return 0
    _limit_memory(plan.memory_share)
    is_restart = restarts or any(item.attempt > 1 for item in items)
    options = (is_restart and plan.restart_options) or plan.options
    argv = [plan.command, *options]
    for item in items:
        argv += ["--filename", item.filename] if item.filename else []
    if items[0].stem == ALL_TOMOGRAMS:
        return _with_status(plan, argv)
    code = _engine(argv)
    unfinished = [i for i in items if _is_paused(plan, i)]
    return UNFINISHED if code == 0 and unfinished else code


def _read(path: Path) -> tuple[ArrayPlan, int]:
    number = _number("SLURM_ARRAY_TASK_ID")
    try:
        plan = ArrayPlan.read(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path}: the plan of the array cannot be read: {error}.",
            remedy="Its folder must be on a file system that all nodes share.",
        ) from error
    if number >= len(plan.tasks):
        raise ConfigurationError(
            f"{path} has no task {number}.", remedy="This is run by a job script only."
        )
    return plan, number


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0


def _engine(argv: Sequence[str]) -> int:
    """Run a command of the engine in this process."""
    from cryosiam_engine.cli import build_parser

    args = build_parser().parse_args(argv)
    return int(args.run(args))


def _with_status(plan: ArrayPlan, argv: Sequence[str]) -> int:
    """Run a command that leaves no status of its own, and write one for it."""
    status = Status(command=plan.command, tomogram=ALL_TOMOGRAMS)
    write_status(plan.status_folder, status)
    try:
        code = _engine(argv)
        status.state = "done" if code == 0 else "failed"
    except (Exception, Interrupted) as error:
        status.fail(error)
        raise
    finally:
        write_status(plan.status_folder, status)
    return code


def _is_through(plan: ArrayPlan, item: Item, began: float) -> bool:
    """Whether a tomogram has a new result, or a new error that is its own."""
    status = read_status(plan.status_folder, item.stem)
    if not is_newer(plan.status_folder, item.stem, began):
        return False
    error = status.get("error") or {}
    failed = status.get("state") == FAILED and error.get("type") != "interrupted"
    return is_whole(status) or failed


def _is_paused(plan: ArrayPlan, item: Item) -> bool:
    status = read_status(plan.status_folder, item.stem)
    return status.get("state") == DONE and not is_whole(status)


def _limit_memory(share: float) -> None:
    """Let the engine plan its tiles with a part of the memory, the computer's and the GPU's."""
    if share < 1:
        from cryosiam_engine.device.host import MEMORY_SHARE

        os.environ[MEMORY_SHARE] = str(share)
        logger.info("Memory ran out before: tiles are planned with %d %% of it.", 100 * share)
