"""What one tomogram costs at every step: files, bytes, and calls of the file system.

``python benchmarks/slurm_simulation/measure.py`` takes small simulated tomograms through the
commands of both workflows with the built-in models, and writes measured.json beside this file. The
calls of the file system are counted by strace.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from cryosiam_engine.cli import build_parser
from cryosiam_engine.demo.workflow import PARTICLE_CLASSES, Folders, Step, add_sample, steps
from cryosiam_engine.demo_models import sample_settings
from cryosiam_engine.logs import log_to_terminal

HERE = Path(__file__).parent
#: Calls that a file system's metadata server answers, of all that strace shows as %file.
_CALL = re.compile(r'^\d+ +(\w+)\([^"]*"([^"]*)"')
_VOLUMES = (".mrc", "_preds.h5")
#: A piece of the tomograms that the models know.
SMALL: dict[str, Any] = {
    "shape": (48, 96, 96),
    "particles_per_species": {"ribosome": 5, "proteasome": 4, "rubisco": 10},
    "membranes": 1,
    "membrane_radius": (100.0, 160.0),
}


def main() -> None:
    """Measure and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("measure-work"))
    parser.add_argument("--tomograms", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "measured.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folders = Folders(args.work.absolute())
    names = [f"TS_{number + 1:02d}" for number in range(args.tomograms)]
    for seed, name in enumerate(names):
        add_sample(folders, name, replace(sample_settings(seed), **SMALL))
    measured: dict[str, Any] = {
        "shape": SMALL["shape"],
        "tomograms": len(names),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, CPU",
        "steps": [measure_step(folders, step, names) for step in workflow(folders)],
    }
    measured.update(count_all_calls(folders, names))
    args.output.write_text(json.dumps(measured, indent=1) + "\n")


def workflow(folders: Folders) -> list[Step]:
    """The commands that work on single tomograms, those of the demo and the instance filter."""
    *to_do, embeddings = steps(folders)[:7]
    instances = to_do[-1].config
    filtered = {
        "prediction_folder": instances["prediction_folder"],
        "filtering_mask_folder": str(folders.result("semantic")),
        "filtering_mask_labels": list(PARTICLE_CLASSES),
    }
    return [*to_do, Step("instance_filter", "filter", filtered), embeddings]


def measure_step(folders: Folders, step: Step, names: Sequence[str]) -> dict[str, Any]:
    """Run a command on all tomograms.

    Returns
    -------
    dict
        Per tomogram the files that were written, in number and bytes: volumes, tables, and what
        the engine notes about them.
    """
    before = sizes(folders.root)
    with log_to_terminal():
        args = build_parser().parse_args(command_line(folders, step, names))
        if args.run(args):
            raise SystemExit(f"{step.command} failed.")
    after = sizes(folders.root)
    written = {path: size for path, size in after.items() if path not in before}
    own = {path: size for path, size in written.items() if any(name in path for name in names)}
    groups: dict[str, list[int]] = {"volumes": [0, 0], "tables": [0, 0], "notes": [0, 0]}
    for path, size in own.items():
        kind = "volumes" if path.endswith(_VOLUMES) else "tables"
        group = groups["notes" if "/status/" in path else kind]
        group[0] += 1
        group[1] += size
    return {
        "step": step.name,
        "command": step.command,
        "files": {kind: count / len(names) for kind, (count, _) in groups.items()},
        "bytes": {kind: round(size / len(names)) for kind, (_, size) in groups.items()},
    }


def command_line(folders: Folders, step: Step, names: Sequence[str]) -> list[str]:
    """The words after ``cryosiam-engine``."""
    config = folders.root / f"config_{step.command}_{step.name}.yaml"
    config.write_text(yaml.safe_dump(step.config, sort_keys=False))
    files = [word for name in names for word in ("--filename", f"{name}.mrc")]
    return [step.command, "--config_file", str(config), *files]


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, logs left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and "/logs/" not in str(path))
    return {str(path): path.stat().st_size for path in found}


def count_all_calls(folders: Folders, names: Sequence[str]) -> dict[str, Any]:
    """Calls of files per process and per tomogram, from runs with one tomogram and with all."""
    step = workflow(folders)[0]
    one, all_ = (
        count_calls(folders, [*command_line(folders, step, some), "--overwrite"])
        for some in (names[:1], names)
    )
    each = (all_["project"] - one["project"]) / (len(names) - 1)
    return {
        "calls_for_programs": one["programs"],
        "calls_per_process": round(one["project"] - each),
        "calls_per_tomogram": round(each),
    }


def count_calls(folders: Folders, argv: Sequence[str]) -> Counter[str]:
    """Calls of files by what they are for: the project, Python and its packages, or the system."""
    with tempfile.NamedTemporaryFile("r", suffix=".strace") as trace:
        engine = [sys.executable, "-m", "cryosiam_engine.cli", *argv]
        words = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=%file", "-o", trace.name]
        subprocess.run(
            [*words, *engine], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        counts: Counter[str] = Counter()
        for line in trace:
            found = _CALL.match(line)
            path = found.group(2) if found else ""
            if path.startswith(str(folders.root)):
                counts["project"] += 1
            elif not path.startswith(("/proc", "/sys", "/dev", "/etc")):
                counts["programs"] += 1
    return counts


if __name__ == "__main__":
    main()
