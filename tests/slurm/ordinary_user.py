"""The real engine on the real Slurm as an ordinary user, in an environment or in a container."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import mrcfile
import numpy as np
import psutil
from shared_cluster import absent, engines

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINE = REPOSITORY / "cryosiam_plugin" / "engine"
MODEL = ENGINE / "cryosiam_engine" / "demo_models" / "demo_denoising.safetensors"
USER = "nobody"
#: Tomograms, of which one is damaged; twelve and more for a thorough look.
N_TOMOGRAMS = int(os.environ.get("CRYOSIAM_SLURM_TOMOGRAMS", "4"))
#: Asked of each task: a share of a node, so that several run at once.
TASK = ("--cpus", "1", "--mem", "1300", "--time", "20")


def everybodys_python(python: str, folder: Path, module: str = "torch") -> str:
    """A Python with a module that every user may run: `python`, or the system's own with the
    packages of that one."""
    question = "import sys, sysconfig; print(sys.version_info[:2], sysconfig.get_path('purelib'))"
    version, packages = _answer([python, "-c", question]).rsplit(" ", 1)
    if user([python, "-c", f"import {module}"], folder).returncode == 0:
        return python
    system = shutil.which("python3", path="/usr/bin:/bin")
    if system is None or version not in _answer([system, "-c", question]):
        absent(f"{USER} may not run {python}, and the system's Python is another one")
    environment = folder / f"environment-{module}"
    _answer([system, "-m", "venv", "--without-pip", str(environment)])
    [site] = environment.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
    for program in Path(python).parent.glob("cryosiam-engine"):
        (environment / "bin" / program.name).symlink_to(program)
    return str(environment / "bin" / "python")


def write_tomograms(place: Path) -> list[str]:
    """Noise of 32 x 48 x 48 voxels, two configurations; the stems of the good ones."""
    rng = np.random.default_rng(0)
    stems = [f"TS_{number:02d}" for number in range(N_TOMOGRAMS)]
    (place / "data").mkdir()
    for stem in stems:
        with mrcfile.new(place / "data" / f"{stem}.mrc") as file:
            file.set_data(rng.random((32, 48, 48), np.float32))
            file.voxel_size = 13.48
    (place / "data" / "TS_01.mrc").write_bytes(b"no tomogram")
    for name in ("here", "there"):
        values = {"data_folder": place / "data", "prediction_folder": place / name}
        values = {key: str(value) for key, value in {**values, "trained_model": MODEL}.items()}
        # JSON is YAML, and quotes whatever a path may have in it.
        (place / f"{name}.yaml").write_text(json.dumps(values))
    shutil.chown(place, USER)
    return [stem for stem in stems if stem != "TS_01"]


def submit(place: Path, python: str, *words: str) -> subprocess.CompletedProcess:
    """``cryosiam-engine slurm`` for the configuration ``there``, a GPU for each tomogram."""
    command = [python, "-m", "cryosiam_engine.cli", "slurm", "denoise_predict"]
    config = ["--config_file", str(place / "there.yaml")]
    return user([*command, *config, *TASK, "--gres", "gpu:1", *words], place)


def check_results(place: Path, stems: list[str], done: subprocess.CompletedProcess) -> None:
    """The same as those that were computed ``here``, all of the user's; the bad one is reported."""
    assert done.returncode == 1, done.stderr
    assert "TS_01: failed (engine error)" in done.stderr
    for stem in stems:
        one, other = (place / where / f"{stem}.mrc" for where in ("here", "there"))
        assert other.owner() == USER
        assert np.array_equal(mrcfile.read(one), mrcfile.read(other))
    assert sorted(path.stem for path in (place / "there").glob("*.mrc")) == stems
    assert not list(place.rglob("*.partial-*"))


class GpuWatch(threading.Thread):
    """Looks, until it is left, which engines run with which GPU.

    Attributes
    ----------
    seen
        For each task: node, what Slurm gave, ``CUDA_VISIBLE_DEVICES`` in the engine's process.
    shared
        GPUs of which two tasks were seen at once.
    """

    def __init__(self, place: Path) -> None:
        super().__init__(daemon=True)
        self._place = place
        self._left = threading.Event()
        self.seen: dict[str, set[tuple[str, str, str]]] = {}
        self.shared: list[tuple[str, str]] = []

    def __enter__(self) -> GpuWatch:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        self.join()

    def run(self) -> None:
        while not self._left.wait(0.5):
            busy: dict[tuple[str, str], str] = {}
            for task, node, given, visible in self._look():
                self.seen.setdefault(task, set()).add((node, given, visible))
                if busy.setdefault((node, visible), task) != task:
                    self.shared.append((node, visible))

    def check(self, n_tasks: int) -> None:
        """All tasks were seen, each with the GPU that it was given and no other had."""
        assert set(self.seen) == {str(task) for task in range(n_tasks)}
        assert not self.shared
        for [(_, given, visible)] in self.seen.values():
            assert given == visible
            assert visible in ("0", "1")

    def _look(self) -> list[tuple[str, ...]]:
        found = []
        names = ("SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES")
        for process in engines(self._place):
            with suppress(psutil.Error):
                values = process.environ()
                found.append(tuple(values.get(name, "") for name in names))
        return found


def user(
    words: list[str], folder: Path, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run a program as the user, who has no home."""
    own = {"HOME": "/nonexistent", "CRYOSIAM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    own.update(variables or {})
    return subprocess.run(
        ["runuser", "-u", USER, "--", *words],
        cwd=folder,
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _answer(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
    return done.stdout.strip()
