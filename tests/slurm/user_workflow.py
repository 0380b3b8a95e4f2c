"""Workflows 1 and 2 by ``cryosiam-engine slurm``, command by command, as an ordinary user."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import yaml
from cryosiam_engine.demo.workflow import Folders, Step, add_sample, steps
from cryosiam_engine.demo_models import CLASS_NAMES, sample_settings
from ordinary_user import TASK, USER, GpuWatch, user

#: Tomograms; twelve for a thorough look.
N_TOMOGRAMS = int(os.environ.get("CRYOSIAM_SLURM_TOMOGRAMS", "2"))
#: What runs a network, and asks for a GPU.
_PREDICTIONS = ("denoise_predict", "semantic_predict", "instance_predict")
_NETWORKS = (*_PREDICTIONS, "simsiam_embeddings_predict")
#: What a run leaves beside results: when and where it was made.
_RECORDS = ("status", "logs", "slurm", "provenance")


class UserWorkflow:
    """The same tomograms ``here``, without Slurm, and ``there``.

    Parameters
    ----------
    place
        A folder that the user may enter.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self.here, self.there = Folders(place / "here"), Folders(place / "there")
        for number in range(N_TOMOGRAMS):
            small = dataclasses.replace(
                sample_settings(number),
                shape=(40, 72, 72),
                particles_per_species={"ribosome": 4, "proteasome": 3, "rubisco": 6},
                membranes=1,
                membrane_radius=(120.0, 140.0),
            )
            add_sample(self.here, f"TS_{number:02d}", small)
        shutil.copytree(self.here.tomograms, self.there.tomograms)
        for path in (place, self.there.root):
            shutil.chown(path, USER)

    def run_here(self, run: Callable[[list[str]], int]) -> None:
        """Run all commands; `run` is the engine's command line."""
        for step in _steps(self.here):
            words = [step.command, "--config_file", str(_config(self.here, step))]
            assert run(words) == 0, words

    def run_there(self, python: str, *words: str) -> None:
        """Submit all commands, each when the one before has all results; watch their GPUs."""
        for step in _steps(self.there):
            command = [python, "-m", "cryosiam_engine.cli", "slurm", step.command, *TASK, *words]
            command += ["--config_file", str(_config(self.there, step))]
            if step.command not in _NETWORKS:
                done = user(command, self._place)
            else:
                with GpuWatch(self._place) as watch:
                    done = user([*command, "--gres", "gpu:1"], self._place)
                watch.check(N_TOMOGRAMS)
            assert done.returncode == 0, done.stderr

    def check(self) -> None:
        """Every result is the same, and the user's; each tomogram took a task of each command."""
        here, there = _results(self.here), _results(self.there)
        assert sorted(there) == sorted(here)
        for name, path in here.items():
            assert _content(there[name]) == _content(path), name
            assert there[name].owner() == USER
        assert sum(name.endswith("_embeds.h5") for name in here) == N_TOMOGRAMS
        for name in ("semantic", "instances", "instances_filtered"):
            tables = [here[n] for n in here if n.startswith(f"{name}/TS_") and n.endswith(".csv")]
            assert sum(len(path.read_text().splitlines()) > 1 for path in tables) >= N_TOMOGRAMS
        assert not list(self.there.root.rglob("*.partial-*"))
        scripts = [path.read_text() for path in self.there.root.rglob("job.sh")]
        assert len(scripts) == len(_steps(self.there))
        assert all(f"#SBATCH --array=0-{N_TOMOGRAMS - 1}\n" in script for script in scripts)


def _steps(folders: Folders) -> list[Step]:
    """Of the demonstration, up to the embeddings; of the instances only those in the classes."""
    predictions = steps(folders)[:7]
    filtered = Step(
        "instance_filter",
        "filter",
        {
            "prediction_folder": str(folders.result("instances")),
            "filtering_mask_folder": str(folders.result("semantic")),
            "filtering_mask_labels": sorted(CLASS_NAMES)[2:],
            "filtering_mask_expand_voxels": 2,
        },
    )
    embeddings = predictions.pop()
    embeddings.config["instances_mask_folder"] = str(folders.result("instances_filtered"))
    return [*predictions, filtered, embeddings]


def _config(folders: Folders, step: Step) -> Path:
    path = folders.root / f"config_{step.name}.yaml"
    path.write_text(yaml.safe_dump(step.config))
    return path


def _results(folders: Folders) -> dict[str, Path]:
    root = folders.root / "predictions"
    files = (path for path in root.rglob("*") if path.is_file())
    names = {path.relative_to(root): path for path in files}
    return {str(n): path for n, path in names.items() if not set(n.parts) & set(_RECORDS)}


def _content(path: Path) -> object:
    """All that is in a file, but for the time of its making."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            names: list[str] = []
            file.visit(names.append)
            data = {n: np.asarray(file[n]) for n in names if isinstance(file[n], h5py.Dataset)}
        return {
            name: (value.dtype.str, value.shape, value.tobytes()) for name, value in data.items()
        }
    if path.suffix in (".csv", ".star"):
        # Tables of all tomograms have them in the order in which they came.
        lines = path.read_text().splitlines()[1 if path.suffix == ".star" else 0 :]
        return sorted(lines) if path.name.startswith("labels_") else lines
    return path.read_bytes()
