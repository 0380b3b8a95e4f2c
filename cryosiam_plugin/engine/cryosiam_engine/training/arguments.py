"""The options of ``semantic_train`` and ``train``; imports nothing heavy."""

from __future__ import annotations

import argparse

TASKS = ("semantic", "denoising", "instance", "embedding", "backbone")


def add_arguments(command: argparse.ArgumentParser, *, any_task: bool) -> None:
    """Add the options of a training to a command's parser.

    Parameters
    ----------
    command
        Has ``--config_file``, ``--device`` and ``--precision`` already.
    any_task
        Of ``train``, which learns other tasks than semantic segmentation too.
    """
    if any_task:
        command.add_argument(
            "--task", choices=TASKS, help="what to learn (default: the configuration's task key)"
        )
    command.add_argument(
        "--dry_run",
        action="store_true",
        help="learn from one batch only, and tell time, memory and what the labels are like",
    )
    command.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="processes on each node (default: parameters.gpu_devices on GPUs, 1 on a CPU)",
    )
