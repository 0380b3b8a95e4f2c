"""Workflows 1 and 2 here and on the roads to Slurm, and all that they leave behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedding_data import network
from watched_engine import Watch
from workflow import Workflow

#: Our protocols, in the order in which they run.
MEMBERS = ("denoised", "lamella", "semantic", "particles", "instances", "near", "embedded")
#: What they begin with.
IMPORTS = ("raw", "model")
#: Without Slurm; the two ways of Scipion's queue; the job array.
HERE, PROTOCOL, STEPS, ARRAY = "here", "protocol", "steps", "array"
#: What each job is given.
CPUS, MEMORY, MINUTES = 1, "1300M", "30"
#: Jobs in the queue at the same time where each step is one.
AT_ONCE = 6
#: Seconds for one protocol, however little of the computer is free.
PATIENCE = 3600.0
#: What says where something lies in files and tables, not what it is: results come in any order.
_PLACES = {"id", "_volId", "_index", "_filename", "_volName", "_volumeName", "_fileName", "_folder"}


@dataclass
class RoadWorkflow(Workflow):
    """A chain of our own protocols only, each on its road; one begins when the last has ended.

    Attributes
    ----------
    roads
        The road of each member that is to run.
    home
        The chain that has the others, and the imports; without it there are no others.
    watch
        What its engines see of GPUs.
    on_gpus
        Members that ask Slurm for GPUs.
    """

    roads: dict[str, str] = field(default_factory=dict)
    home: Workflow | None = None
    watch: Watch | None = None
    on_gpus: list[str] = field(default_factory=list)

    def go(self) -> RoadWorkflow:
        """Run all members."""
        self._cryosiam(*self._imports())
        self._instances()
        self._embeddings()
        return self

    def _add(self, name: str, protocol_class: type, **parameters: Any) -> Any:
        if name not in self.roads and (self.home is not None or name not in IMPORTS):
            self.members[name] = self.home.members.get(name) if self.home else None
            return self.members[name]
        road = self.roads.get(name, HERE)
        protocol = super()._add(name, protocol_class, **parameters)
        take_road(protocol, road, use_gpu="useGpu" in parameters)
        if road != HERE and "useGpu" in parameters:
            self.on_gpus.append(name)
        self.project.launch(protocol, wait=False)
        return self.project.finished(protocol, PATIENCE)

    def _embeddings(self) -> None:
        from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

        self._add(
            "embedded",
            ProtCryosiamEmbeddings,
            inputTomograms=(self["denoised"], "denoisedTomograms"),
            inputInstances=(self["near"], "instanceMasks"),
            masking=1,
            makeMap=False,
            **network(),
        )


def take_road(protocol: Any, road: str, *, use_gpu: bool) -> None:
    """Fill in the form of a protocol that is to go to Slurm, or stay here."""
    if road == HERE:
        return
    if use_gpu:
        protocol.useGpu.set(True)
    if road == ARRAY:
        protocol.whereToRun.set(1)
        protocol.slurmCpus.set(CPUS)
        protocol.slurmMemory.set(MEMORY)
        protocol.slurmTime.set(MINUTES)
        return
    if road == STEPS:
        protocol.numberOfThreads.set(AT_ONCE + 1)
    protocol._useQueue.set(True)
    protocol.setQueueParams(("gpu", _queue_answers(road)))


def _queue_answers(road: str) -> dict[str, str]:
    """What is filled in behind the pencil beside *Use a queue engine*."""
    each_step = "Y" if road == STEPS else "N"
    asked = {"JOB_CPUS": str(CPUS), "JOB_MEMORY": MEMORY, "JOB_TIME": MINUTES}
    return {**asked, "QUEUE_FOR_JOBS": each_step}


def results_of(protocol: Any) -> dict[str, bytes]:
    """Content of every file that the engine made of a tomogram, by its path in the run's folder."""
    extra = Path(protocol._getExtraPath())
    found = {}
    for folder in extra.glob("predictions*"):
        for path in folder.glob("TS_*"):
            if path.is_file() and not path.is_symlink():
                found[str(path.relative_to(extra))] = _content(path)
    return found


def _content(path: Path) -> bytes:
    """All that is in a file, but for the line in which STAR files tell the time of their making."""
    content = path.read_bytes()
    return content.partition(b"\n")[2] if path.suffix == ".star" else content


def objects_of(protocol: Any) -> dict[str, Any]:
    """What Scipion knows of every output and its items, in an order that is theirs alone."""
    return {name: _described(output) for name, output in protocol.iterOutputAttributes()}


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """What is in one of two answers of :func:`objects_of` only; of many items the first ones."""
    found = [f"{name}: one has no such output" for name in {*here} ^ {*there}]
    for name in {*here} & {*there}:
        one, other = here[name], there[name]
        if one == other:
            continue
        if not isinstance(one, tuple) or one[:3] != other[:3]:
            found.append(f"{name}: {str(one)[:300]} and {str(other)[:300]}")
            continue
        items, others = Counter(one[3]), Counter(other[3])
        only = [sorted((a - b).elements()) for a, b in ((items, others), (others, items))]
        found.append(
            f"{name}: {len(only[0])} and {len(only[1])} items only: {only[0][:1]} {only[1][:1]}"
        )
    return found


def _described(output: Any) -> Any:
    if not hasattr(output, "iterItems"):
        return _values(output)
    items = sorted(repr(sorted(_values(item).items())) for item in output.iterItems())
    output.close()
    return type(output).__name__, output.getSize(), output.getSamplingRate(), items


def _values(item: Any) -> dict[str, Any]:
    values = item.getObjDict(includeBasic=True)
    return {key: value for key, value in values.items() if key.split(".")[-1] not in _PLACES}


def scripts_of(protocol: Any, road: str) -> list[str]:
    """The text of every job script of a run."""
    folder, pattern = Path(protocol._getLogsPath()), "*.job"
    if road == ARRAY:
        folder, pattern = Path(protocol._getExtraPath("slurm")), "*/run_*/array_*/job.sh"
    return [path.read_text("utf-8") for path in sorted(folder.glob(pattern))]
