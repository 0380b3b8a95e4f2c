"""Time and size of each build of the container tests, from the beginning, on this computer.

    python benchmarks/containers/builds.py FOLDER

In Scipion's Python (scripts/scipion_environment.sh), as root on Debian. FOLDER is a new one, with
8 GB free. Writes a Markdown table. How busy the computer was with other programs is said beside it:
wall times can only be compared where it was not.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MEGABYTE = 1e6


def measured(build: Callable[[], object]) -> tuple[object, float, float]:
    """What a build made; seconds of wall and CPU time of it and of all programs that it starts."""
    began, before = time.perf_counter(), os.times()
    made = build()
    after = os.times()
    return made, time.perf_counter() - began, sum(after[:4]) - sum(before[:4])


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    files = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder.absolute()
    if folder.exists():
        parser.error(f"{folder} is there already")
    os.environ["CRYOSIAM_CONTAINERS"] = str(folder)
    os.environ.setdefault("SCIPION_HOME", str(REPOSITORY / ".scipion" / "home"))
    sys.path.append(str(REPOSITORY / "tests" / "containers"))
    import container_builds
    import container_sources

    container_builds.install_apptainer()
    steps: dict[str, Callable[[], object]] = {
        "base: minimal Debian 12 with Python": container_sources.base,
        "download of the pinned packages": container_sources.wheels,
        "the plugin's wheel, installed": container_sources.installed_wheel,
        "SIF by Scipion's installer, with its own test": container_builds.sif,
        "OCI image by buildah, with its base": container_builds.image,
        "SIF from the OCI image (`docker-archive`)": container_builds.converted,
    }
    print("| step | wall, s | CPU, s | MB | load before |\n|---|---|---|---|---|")
    for name, build in steps.items():
        load = os.getloadavg()[0]
        made, wall, cpu = measured(build)
        size = f"{size_of(made) / MEGABYTE:,.0f}" if isinstance(made, Path) else ""
        print(f"| {name} | {wall:.0f} | {cpu:.0f} | {size} | {load:.1f} |", flush=True)


if __name__ == "__main__":
    main()
