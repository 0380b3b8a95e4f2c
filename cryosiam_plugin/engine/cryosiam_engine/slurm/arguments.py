"""The options of ``cryosiam-engine slurm``; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cryosiam_engine.slurm.settings import JobSettings

TRAININGS = ("semantic_train", "train")


def add_arguments(
    parser: argparse.ArgumentParser,
    add_engine_commands: Callable[[argparse._SubParsersAction], None],
) -> None:
    """Declare what can be done on Slurm.

    Parameters
    ----------
    parser
        Of the command.
    add_engine_commands
        Adds the engine's commands, with the options that they have without Slurm.
    """
    jobs = parser.add_subparsers(dest="job", required=True, metavar="COMMAND")
    add_engine_commands(jobs)
    for name, job in jobs.choices.items():
        job.description = f"{job.description} - on Slurm, with one task for each tomogram"
        if name in TRAININGS:
            job.description = f"{job.description} - on Slurm, queued again at the time limit"
        _add_job_options(job)
        job.set_defaults(run=_submit)
    _add_follow_ups(jobs)


def _add_job_options(job: argparse.ArgumentParser) -> None:
    add = job.add_argument_group("Slurm").add_argument
    add("--partition", default="", metavar="NAME")
    add("--account", default="", metavar="NAME")
    add("--qos", default="", metavar="NAME")
    gpus = "of each task, such as"
    add("--gres", default="", metavar="GRES", help=f"{gpus} gpu:1 or gpu:a100:1")
    add("--gpus-per-task", default="", metavar="GPUS", help=f"{gpus} 1; another way to ask")
    add("--cpus", type=int, default=0, metavar="N", help="CPUs of each task")
    add("--mem", default="", metavar="SIZE", help="memory of each task, such as 32G")
    add("--time", default="", metavar="TIME", help="limit of each task, such as 4:00:00")
    add("--array-cap", type=int, default=0, metavar="N", help="tasks at once (default: no cap)")
    add(
        "--tomograms-per-task",
        type=int,
        default=1,
        metavar="N",
        help="more than 1 saves the time of loading the model (default: %(default)s)",
    )
    add(
        "--sbatch-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="any other, such as --sbatch-option=--constraint=a100 (may be repeated)",
    )
    add(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="times that a tomogram is tried again after its job has died (default: %(default)s)",
    )
    add("--detach", action="store_true", help="submit and leave; see 'slurm follow'")
    engine = job.add_mutually_exclusive_group()
    engine.add_argument("--container", metavar="SIF", help="run the engine of this image")
    engine.add_argument(
        "--native", metavar="PYTHON", help="run the engine of this Python (default: this one)"
    )


def _add_follow_ups(jobs: argparse._SubParsersAction) -> None:
    for name, text in (
        ("follow", "go on with a run: register results, try failures again"),
        ("status", "how far a run is"),
        ("cancel", "cancel a run"),
        ("retry-failed", "compute once more what has failed, and follow"),
    ):
        parser = jobs.add_parser(name, help=text, description=text)
        parser.add_argument(
            "folder", metavar="FOLDER", help="of the run; or prediction_folder, for its last run"
        )
        parser.set_defaults(run=_follow_up)
        if name == "retry-failed":
            parser.add_argument("--detach", action="store_true", help="submit and leave")
    task = jobs.add_parser("run-task", help="what a job script runs: one task of an array")
    task.add_argument("tasks", metavar="FILE", help="the array's tasks.json")
    task.set_defaults(run=_run_task)


def settings_of(args: argparse.Namespace, *, nodes: int = 1, processes: int = 1) -> JobSettings:
    """What the options ask Slurm for, for each task."""
    return JobSettings(
        partition=args.partition,
        account=args.account,
        qos=args.qos,
        gres=args.gres,
        gpus_per_task=args.gpus_per_task,
        cpus=args.cpus,
        memory=args.mem,
        time=args.time,
        cap=args.array_cap,
        extra=tuple(args.sbatch_option),
        nodes=nodes,
        processes=processes,
    )


def _submit(args: argparse.Namespace) -> int:
    from cryosiam_engine.slurm.command import submit

    return submit(args)


def _follow_up(args: argparse.Namespace) -> int:
    from cryosiam_engine.slurm.command import follow_up

    return follow_up(args)


def _run_task(args: argparse.Namespace) -> int:
    from cryosiam_engine.slurm.task import run_task

    return run_task(args.tasks)
