"""Where the tomograms are computed: here, or as a job array of Slurm."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from typing import Any

from pyworkflow.protocol.constants import LEVEL_ADVANCED
from pyworkflow.protocol.params import GE, EnumParam, IntParam, StringParam

from cryosiam_plugin.constants import RUNTIME_APPTAINER, RUNTIME_NATIVE
from cryosiam_plugin.launcher import LaunchSettings
from cryosiam_plugin.slurm_core import JobSettings, SlurmError, Words

HERE, ON_SLURM = range(2)
AS_CONFIGURED, IN_CONTAINER, NATIVE = range(3)

#: What the form calls that which Slurm may refuse.
FIELDS = {
    "partition": "Partition",
    "account": "Account",
    "qos": "QOS",
    "time": "Time limit of each task",
    "memory": "Memory of each task",
    "gpus": "GPUs of each task",
    "cpus": "CPUs of each task",
    "per_task": "Tomograms per engine process",
    "options": "Other options",
}
#: The same, for the reasons of failures.
FORM = Words(again="_Continue_", **{name: f"'{label}'" for name, label in FIELDS.items()})
#: Where they are among the settings of a task, if not by the same name.
_NAMES = {"gpus": "gres", "options": "extra"}

_CONDITION = f"whereToRun=={ON_SLURM}"
_RUNTIMES = {IN_CONTAINER: RUNTIME_APPTAINER, NATIVE: RUNTIME_NATIVE}


def defineSlurmParams(form: Any) -> None:
    """Where to run, and what to ask Slurm for: a tab of its own."""
    form.addSection(label="Where to run")
    form.addParam(
        "whereToRun",
        EnumParam,
        choices=["here, or in Scipion's queue", "Slurm job array"],
        default=HERE,
        display=EnumParam.DISPLAY_COMBO,
        label="Where to run",
        help="*here*: on this computer; if Scipion's queue is in use, there.\n*Slurm job array*: "
        "Slurm computes many tomograms at once, each in a task of its own (or a few: _Tomograms "
        "per engine process_); this protocol only waits and collects. A task that dies is tried "
        "again. Closing Scipion does not end the tasks: _Continue_ finds them again. Stopping the "
        "protocol cancels them. Scipion's queue should then not be used.",
    )
    _defineResources(form)
    _defineAdvanced(form)


def _defineResources(form: Any) -> None:
    """What every user must know of the cluster."""
    _text(form, "Partition", "Partition", "Empty: the cluster's default. 'sinfo' lists them.")
    _text(
        form,
        "Gpus",
        "GPUs of each task",
        "A number, or type and number as 'a100:1' (--gres=gpu:a100:1). One is what a tomogram "
        "can use. Asked for only where _Use GPU_ is on and a network is run.",
        default="1",
    )
    _number(form, "Cpus", 4, "CPUs of each task", "0: the cluster's default.")
    _text(
        form,
        "Memory",
        "Memory of each task",
        "Of the computer, not of the GPU, as '32G'. A tomogram that needs more is tried again "
        "with half as much again and with smaller tiles. Empty: the cluster's default.",
        default="32G",
    )
    _text(
        form,
        "Time",
        "Time limit of each task",
        "As '90' (minutes), '4:00:00' or '1-12' (days-hours). Just before the limit a task "
        "queues itself again. Empty: the partition's.",
        default="4:00:00",
    )
    text = "So many GPUs are in use at the same time. 0: as many as Slurm gives."
    _number(form, "Cap", 0, "Tasks at once, at most", text)


def _defineAdvanced(form: Any) -> None:
    """What some clusters ask for."""
    for name, label, text in (
        ("Account", "Account", "Who pays, where the cluster asks for it (--account)."),
        ("Qos", "QOS", "Quality of service, where the cluster has several (--qos)."),
        (
            "Extra",
            "Other options",
            "Any other options of sbatch, as '--constraint=a100 --exclude=node7'. For clusters "
            "that do not know --gres: leave _GPUs_ empty, and '--ntasks=1 --gpus-per-task=1' here.",
        ),
    ):
        _text(form, name, label, text, expertLevel=LEVEL_ADVANCED)
    text = (
        "A tomogram whose task died: no memory, no time, a broken node or disk. What the "
        "engine itself refuses, such as a damaged file, is not tried again."
    )
    _number(form, "Retries", 2, "Times to try again", text, expertLevel=LEVEL_ADVANCED)
    form.addParam(
        "slurmRuntime",
        EnumParam,
        choices=["as configured", "container", "its own environment"],
        default=AS_CONFIGURED,
        condition=_CONDITION,
        expertLevel=LEVEL_ADVANCED,
        label="Engine",
        help="How the engine is started on the nodes. Its environment, or the container image, "
        "must be on a disk that the nodes see.",
    )


def _text(form: Any, name: str, label: str, text: str, default: str = "", **how: Any) -> None:
    form.addParam(
        f"slurm{name}",
        StringParam,
        default=default,
        condition=_CONDITION,
        label=label,
        help=text,
        **how,
    )


def _number(form: Any, name: str, default: int, label: str, text: str, **how: Any) -> None:
    form.addParam(
        f"slurm{name}",
        IntParam,
        default=default,
        condition=_CONDITION,
        validators=[GE(0, error="must be 0 or more")],
        label=label,
        help=text,
        **how,
    )


def job_settings(protocol: Any, *, use_gpu: bool) -> JobSettings:
    """What the form asks Slurm for.

    Parameters
    ----------
    protocol
        With the parameters of :func:`defineSlurmParams`.
    use_gpu
        Whether a task needs its GPUs.

    Raises
    ------
    SlurmError, ValueError
        When that cannot be right.
    """
    settings = JobSettings(**_asked(protocol, use_gpu=use_gpu))
    settings.check()
    return settings


def _asked(protocol: Any, *, use_gpu: bool) -> dict[str, Any]:
    """The settings of a task, unchecked."""

    def text(name: str) -> str:
        return (getattr(protocol, f"slurm{name}").get() or "").strip()

    gpus = text("Gpus")
    gpus = gpus[len("gpu:") :] if gpus.startswith("gpu:") else gpus
    return {
        "partition": text("Partition"),
        "gres": f"gpu:{gpus}" if use_gpu and gpus not in ("", "0") else "",
        "cpus": protocol.slurmCpus.get(),
        "memory": text("Memory"),
        "time": text("Time"),
        "account": text("Account"),
        "qos": text("Qos"),
        "cap": protocol.slurmCap.get(),
        "extra": tuple(shlex.split(text("Extra"))),
    }


def slurm_problems(protocol: Any) -> list[str]:
    """Why nothing could be submitted from here, field by field; empty when it can."""
    problems = []
    if shutil.which("sbatch") is None:
        problems.append(
            "*Where to run*: this computer has no sbatch. Start Scipion where jobs of Slurm can "
            "be submitted, or run here."
        )
    try:
        asked = _asked(protocol, use_gpu=True)
    except ValueError as error:
        return [*problems, f"*{FIELDS['options']}*: {error}: a quotation mark has no partner."]
    for field, label in FIELDS.items():
        name = _NAMES.get(field, field)
        try:
            JobSettings(**({name: asked[name]} if name in asked else {})).check()
        except SlurmError as error:
            problems.append(f"*{label}*: {error}")
    return problems


def slurm_warnings(protocol: Any) -> list[str]:
    """What is possible, but hardly meant."""
    if not protocol.useQueue():
        return []
    return [
        "*Where to run* is *Slurm job array*, and *Use a queue engine?* is *Yes* too: the protocol "
        "would be a job of its own that only waits for its array, and is ended at its own time "
        "limit. The array does not need Scipion's queue: better say *No* there."
    ]


def launch_settings(protocol: Any, configured: LaunchSettings) -> LaunchSettings:
    """How the engine is started in a task."""
    chosen = _RUNTIMES.get(protocol.slurmRuntime.get())
    return replace(configured, runtime=chosen) if chosen else configured
