"""What Scipion's side costs: many small tomograms through one protocol.

    python benchmarks/plugin_overhead.py --number 50

Runs the denoising protocol in a headless project and compares its wall time with the engine's own
time (its status files) and with the engine run directly on the same tomograms. The model must be
loaded once, and Scipion's side should cost less than a second per tomogram.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "plugin"))
#: Seconds per tomogram that Scipion's side may cost.
BAR = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=50, help="tomograms (default: 50)")
    parser.add_argument("--shape", type=int, nargs=3, default=(16, 32, 32), metavar=("Z", "Y", "X"))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    import conftest  # tests/plugin: gives Scipion a home before it is imported

    conftest.prepare_scipion(Path(tempfile.mkdtemp(prefix="cryosiam-overhead-")))
    from scipion_projects import Project, said

    python = os.environ.get("CRYOSIAM_ENGINE_PYTHON") or str(REPOSITORY / ".venv/bin/python")
    project = Project("overhead", python)
    from cryosiam_plugin.protocols import ProtCryosiamDenoise
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    imported = project.import_tomograms(simulated_tomograms(options.number, options.shape))
    protocol = project.new(
        ProtCryosiamDenoise,
        inputTomograms=(imported, "Tomograms"),
        modelSource=1,
        modelFile=str(small_models() / "demo_denoising.ckpt"),
        useGpu=options.device == "cuda",
        numberOfThreads=3,
    )
    started = time.monotonic()
    project.launch(protocol)
    wall = time.monotonic() - started
    project.again(protocol)
    if not protocol.isFinished():
        sys.exit(said(protocol))
    return report(protocol, options.number, wall, direct_seconds(protocol, Path(project.path)))


def direct_seconds(protocol: Any, project: Path) -> float:
    """Wall time of the engine alone: the recorded command, into an empty folder."""
    extra = Path(protocol._getExtraPath()).absolute()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "run.yaml"
        text = (extra / "run.yaml").read_text()
        config.write_text(text.replace(str(extra / "predictions"), folder))
        command = (extra / "engine/engine_1.sh").read_text()
        command = command.replace(str(extra / "run.yaml"), str(config))
        started = time.monotonic()
        subprocess.run(["/bin/sh", "-c", command], check=True, cwd=project, capture_output=True)
        return time.monotonic() - started


def report(protocol: Any, number: int, wall: float, direct: float) -> int:
    extra = Path(protocol._getExtraPath())
    logs = "".join(path.read_text() for path in extra.glob("engine/*.log"))
    loads = len(re.findall(r"Model .* \(sha256", logs))
    statuses = [json.loads(p.read_text()) for p in extra.glob("predictions/status/*.json")]
    computing = sum(sum(status["seconds"].values()) for status in statuses)
    overhead = (wall - direct) / number
    print(f"tomograms                        {number}")
    print(f"outputs                          {protocol.denoisedTomograms.getSize()}")
    print(f"engine processes, model loads    {len(list(extra.glob('engine/*.sh')))}, {loads}")
    print(f"protocol, wall time              {wall:.1f} s")
    print(f"engine alone, wall time          {direct:.1f} s (of which computing {computing:.1f} s)")
    print(f"Scipion's side per tomogram      {overhead:.2f} s (bar: {BAR} s)")
    whole = protocol.denoisedTomograms.getSize() == number
    return 0 if whole and loads == 1 and overhead < BAR else 1


if __name__ == "__main__":
    sys.exit(main())
