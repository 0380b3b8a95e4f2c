"""What the tests of viewers and wizards need: a screen of their own, and data."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest

# These tests run in Scipion's environment; the engine's has no Scipion to import.
if importlib.util.find_spec("pyworkflow") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    # The same home for Scipion as the plugin's other tests have.
    runpy.run_path(str(Path(__file__).parents[1] / "plugin" / "conftest.py"))


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A screen of 1280 x 800 that nobody else uses, with a window manager if there is one."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24"]
    server = subprocess.Popen(
        [*command, "-nolisten", "tcp"], pass_fds=[writing], stderr=subprocess.DEVNULL
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        name = f":{pipe.readline().strip()}"
    managers = [m for m in ("openbox", "fluxbox", "twm") if shutil.which(m)]
    environment = {**os.environ, "DISPLAY": name}
    manager = (
        subprocess.Popen(managers[:1], env=environment, stderr=subprocess.DEVNULL)
        if managers
        else None
    )
    if manager:
        time.sleep(2)  # windows that are opened while it starts may stay hidden
    before = os.environ.get("DISPLAY")
    os.environ["DISPLAY"] = name
    yield name
    if before is None:
        del os.environ["DISPLAY"]
    else:
        os.environ["DISPLAY"] = before
    for process in filter(None, (manager, server)):
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def root(display: str) -> Iterator[object]:
    """Tk on that screen."""
    tkinter = pytest.importorskip("tkinter")
    window = tkinter.Tk()
    window.withdraw()
    errors: list = []
    # Tk prints what its callbacks raise, and goes on; a test must not.
    window.report_callback_exception = lambda *error: errors.append(error)
    yield window
    window.destroy()
    assert not errors, errors


@pytest.fixture
def screenshot(display: str, tmp_path: Path):
    """Takes a picture of the screen; kept where CRYOSIAM_SCREENSHOTS says."""
    from PIL import Image, ImageGrab

    folder = Path(os.environ.get("CRYOSIAM_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(name: str) -> Image.Image:
        image = ImageGrab.grab(xdisplay=display)
        image.save(folder / f"{name}.png")
        return image

    return take


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small tomograms of the engine's simulator with the truth about them."""
    python = os.environ.get("CRYOSIAM_ENGINE_PYTHON", sys.executable)
    folder = tmp_path_factory.mktemp("simulated")
    command = [python, "-m", "cryosiam_engine.cli", "simulate", "--output", str(folder)]
    command += ["--number", "2", "--shape", "48", "80", "96", "--seed", "3"]
    command += ["--species", "ribosome=8", "proteasome=4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named" in done.stderr:
        pytest.skip("the engine is not installed: set CRYOSIAM_ENGINE_PYTHON")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def simulated_files(simulated: Path):
    """The first of them as the slice viewer takes it."""
    import json

    from cryosiam_plugin.viewers.marks import read_particles_csv
    from cryosiam_plugin.viewers.scene import MaskFile, SceneFiles

    truth = simulated / "truth"
    classes = json.loads((truth / "TS_01_classes.json").read_text())
    names = {int(label): name for label, name in classes.items()}
    return SceneFiles(
        name="TS_01",
        tomogram=simulated / "tomograms" / "TS_01.mrc",
        title="raw",
        beside=truth / "TS_01_clean.mrc",
        masks=[
            MaskFile(truth / "TS_01_lamella.mrc", "lamella", {1: "lamella"}, shown=False),
            MaskFile(truth / "TS_01_semantic.mrc", "classes", names),
        ],
        particles=lambda: read_particles_csv(truth / "TS_01_particles.csv", "TS_01"),
        box_size=18,
    )


@pytest.fixture(scope="module")
def empty_project() -> Iterator[object]:
    """A project without runs, and its folder as the current one."""
    from pyworkflow import Config
    from pyworkflow.project import Manager

    # Discovering the plugins gives their variables values.
    Config.getDomain().getProtocols()
    manager = Manager()
    if manager.hasProject("CryosiamForms"):
        manager.deleteProject("CryosiamForms")
    before = Path.cwd()
    project = manager.createProject("CryosiamForms")
    os.chdir(project.path)
    yield project
    os.chdir(before)
