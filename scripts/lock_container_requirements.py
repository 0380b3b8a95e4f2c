"""Pin what the container installs: every package's version and SHA-256, for CUDA and for the CPU.

Run it with the container's own Python (3.11), from a virtual environment whose pip is new::

    python3.11 -m venv /tmp/lock && /tmp/lock/bin/pip install -U pip
    /tmp/lock/bin/python scripts/lock_container_requirements.py [--torch-cpu FOLDER]

pip resolves the engine's requirements from the package index's metadata: no package is downloaded,
not even the gigabytes of the CUDA build. FOLDER has the wheel of PyTorch's CPU build, which the
index does not have; without it that file is left as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomllib

PLUGIN = Path(__file__).resolve().parents[1] / "cryosiam_plugin"
PROJECT = PLUGIN / "engine" / "pyproject.toml"
CONTAINERS = PLUGIN / "containers"

PYTHON = (3, 11)
TORCH = "2.13.0"
#: What the engine itself is built with, since it is installed without pip's build isolation.
BUILD = ["setuptools>=77"]
#: Debian 12's C library is 2.36.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def resolve(wanted: list[str], *options: str) -> dict[str, dict[str, Any]]:
    """Let pip decide what it would install; its report on each package, by name."""
    target = ["--python-version", ".".join(map(str, PYTHON)), "--only-binary", ":all:"]
    target += [word for platform in PLATFORMS for word in ("--platform", platform)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--use-feature=fast-deps", "--target", folder]
        # Nothing of this computer's own settings may get into the files.
        command = ["env", "-u", "PIP_FIND_LINKS", "PIP_CONFIG_FILE=/dev/null", *command]
        command += [*target, "--report", str(report), *options, *wanted]
        subprocess.run(command, check=True)  # noqa: S603 - pip, with the words above
        items = json.loads(report.read_text())["install"]
    return {item["metadata"]["name"].lower().replace("_", "-"): item for item in items}


def line(item: dict[str, Any]) -> str:
    """One line of a requirements file."""
    source = item["download_info"]
    digest = source.get("archive_info", {}).get("hashes", {}).get("sha256")
    if digest is None:  # a file of this computer
        digest = hashlib.sha256(
            Path(source["url"].removeprefix("file://")).read_bytes()
        ).hexdigest()
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    return f"{name}=={version} --hash=sha256:{digest}"


def write(kind: str, items: dict[str, dict[str, Any]]) -> None:
    """Write the requirements file of one kind."""
    path = CONTAINERS / f"requirements-{kind}.txt"
    header = (
        f"# What the container installs ({kind}): Python {PYTHON[0]}.{PYTHON[1]}, Linux, x86-64.\n"
        "# Made by scripts/lock_container_requirements.py; do not edit.\n"
    )
    lines = [line(items[name]) for name in sorted(items)]
    path.write_text(header + "\n".join(lines) + "\n")
    sys.stderr.write(f"{path}: {len(lines)} packages\n")


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch-cpu", type=Path, help="folder with the wheel of the CPU build")
    folder = parser.parse_args().torch_cpu
    if sys.version_info[:2] != PYTHON:
        parser.error(f"needs Python {PYTHON[0]}.{PYTHON[1]}: pip would read the wrong conditions")
    project = tomllib.loads(PROJECT.read_text())["project"]
    others = [word for word in project["dependencies"] if not word.startswith("torch>")]
    cuda = resolve([*others, *BUILD, f"torch=={TORCH}"])
    write("cuda", cuda)
    if folder is None:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        # The same versions in both images.
        versions = {name: item["metadata"]["version"] for name, item in cuda.items()}
        kept = (f"{name}=={versions[name]}\n" for name in versions if name != "torch")
        constraints.writelines(kept)
        constraints.flush()
        links = ["--find-links", str(folder), "--constraint", constraints.name]
        write("cpu", resolve([*others, *BUILD, f"torch=={TORCH}+cpu"], *links))


if __name__ == "__main__":
    main()
