"""Real projects without the GUI: make, run, look again, wait, kill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import psutil

VOXEL_SIZE = 13.48


class Project:
    """A Scipion project in a folder of its own; the working folder is inside, as Scipion wants."""

    def __init__(self, name: str, engine_python: str) -> None:
        os.environ.update(
            CRYOSIAM_ENGINE_PYTHON=engine_python, CRYOSIAM_RUNTIME="native", OMP_NUM_THREADS="1"
        )
        from pyworkflow.project import Manager

        manager = Manager()
        if manager.hasProject(name):
            manager.deleteProject(name)
        self.scipion = manager.createProject(name)
        self.path = Path(self.scipion.path)
        os.chdir(self.path)

    def new(self, protocol_class: type, **parameters: Any) -> Any:
        """A protocol; a value that is (protocol, output's name) becomes a pointer.

        The output need not exist yet.
        """
        pointers = {key: value for key, value in parameters.items() if isinstance(value, tuple)}
        plain = {key: value for key, value in parameters.items() if key not in pointers}
        protocol = self.scipion.newProtocol(protocol_class, **plain)
        for key, (parent, output) in pointers.items():
            pointer = getattr(protocol, key)
            pointer.set(parent)
            pointer.setExtended(output)
        return protocol

    def run(self, protocol_class: type, **parameters: Any) -> Any:
        protocol = self.new(protocol_class, **parameters)
        self.launch(protocol)
        return self.again(protocol)

    def launch(self, protocol: Any, *, wait: bool = True) -> None:
        self.scipion.launchProtocol(protocol, wait=wait)

    def again(self, protocol: Any) -> Any:
        """The protocol as its own process has stored it."""
        from pyworkflow.utils import getFileLastModificationDate

        before = getFileLastModificationDate(protocol.getDbPath())
        self.scipion._updateProtocol(protocol)
        if before != getFileLastModificationDate(protocol.getDbPath()):
            # Written while it was read: Scipion would take what it has read for the newest, and a
            # protocol that waits for tomograms may write no more.
            protocol.lastUpdateTimeStamp.set(before)
        return protocol

    def died(self, protocol: Any) -> Any:
        """Note that a protocol's process is gone, as the GUI does when it looks for it."""
        self.again(protocol)
        protocol.setFailed("Process not found running on the machine.")
        protocol._store()
        return protocol

    def finished(self, protocol: Any, seconds: float = 600) -> Any:
        """Wait until a protocol has ended well."""
        wait_for(lambda: self._has_ended(protocol), f"{protocol} to end", seconds, pause=0.5)
        assert self.again(protocol).isFinished(), said(protocol)
        return protocol

    def _has_ended(self, protocol: Any) -> bool:
        # Its own database is asked: the project takes a run for dead that it looks at between
        # the end of its scheduler and its own start.
        from pyworkflow.protocol import getProtocolFromDb

        found = getProtocolFromDb(str(self.path), protocol.getDbPath(), protocol.getObjId())
        status = found.getStatus()
        found.getProject().closeMapper()
        found.closeMappers()
        return status in ("finished", "failed", "aborted")

    def import_tomograms(self, folder: Path, pattern: str = "TS_*.mrc") -> Any:
        from tomo.protocols import ProtImportTomograms

        return self.run(
            ProtImportTomograms,
            filesPath=str(folder),
            filesPattern=pattern,
            samplingRate=VOXEL_SIZE,
        )


def outputs_of(protocol: Any) -> list[str]:
    """Names of the outputs that the user sees."""
    return sorted(name for name, _ in protocol.iterOutputAttributes())


def model(models: Path, name: str) -> dict[str, Any]:
    """The form's values for one of the small models, on the CPU."""
    return {"modelSource": 1, "modelFile": str(models / f"demo_{name}.ckpt"), "useGpu": False}


def said(protocol: Any) -> str:
    """Everything that a protocol wrote, for a failed assertion."""
    logs = [Path(path) for path in (protocol.getStdoutLog(), protocol.getStderrLog())]
    return "\n".join(log.read_text(errors="replace")[-4000:] for log in logs if log.exists())


def wait_for(
    condition: Callable[[], Any], what: str, seconds: float = 300, pause: float = 0.1
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(pause)


def state_of(protocol: Any, ts_id: str) -> str:
    """What the engine's status file says of a tomogram; empty without one."""
    import json

    try:
        path = Path(protocol._getExtraPath("predictions", "status", f"{ts_id}.json"))
        return json.loads(path.read_text())["state"]
    except (OSError, ValueError):
        return ""


def processes_of(protocol: Any) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The protocol's own process, and its engine's."""
    # Runs of other projects, which other tests look at meanwhile, may have the same name.
    work = f"{Path(protocol.getProject().path).name}/{protocol.getWorkingDir()}"
    own, engine = [], []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "cryosiam_engine.cli" in words and any(work in word for word in words):
            engine.append(process)
        elif any("pw_protocol_run" in word for word in words) and any(work in w for w in words):
            own.append(process)
    return own, engine


def kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=10)


def voxels(item: Any) -> np.ndarray:
    """The volume of a Scipion item, (z, y, x)."""
    with mrcfile.open(item.getFileName(), permissive=True) as mrc:
        return mrc.data.copy()


def volumes(output: Any) -> dict[str, np.ndarray]:
    """All volumes of a set, by tsId."""
    found = {item.getTsId(): voxels(item) for item in output.iterItems()}
    output.close()
    return found
