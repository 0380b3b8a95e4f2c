from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version
from PIL import Image
from pyworkflow import VariablesRegistry, VarTypes
from pyworkflow.utils import Environ

import cryosiam_plugin
from cryosiam_plugin import Plugin, constants, installation
from cryosiam_plugin.installation import INSTALL_SCRIPT, engine_commands
from cryosiam_plugin.published_models import MODELS_FILE, read_published_models

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = Path(cryosiam_plugin.__file__).parent

TYPES = {
    "CRYOSIAM_RUNTIME": VarTypes.STRING,
    "CRYOSIAM_SIF": VarTypes.PATH,
    "CRYOSIAM_MODELS": VarTypes.FOLDER,
    "CRYOSIAM_ENGINE_PYTHON": VarTypes.PATH,
    "CRYOSIAM_APPTAINER": VarTypes.PATH,
    "CRYOSIAM_EXTRA_BINDS": VarTypes.STRING,
}


@pytest.fixture
def variables(domain, monkeypatch: pytest.MonkeyPatch):
    """Variables as Scipion would have read them: set some, the others have their defaults."""

    def define(**values: str) -> None:
        for name in TYPES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        Plugin._defineVariables()
        Plugin._validated = None

    yield define
    monkeypatch.undo()
    Plugin._defineVariables()
    Plugin._validated = None


# ------------------------------------------------------------------ what Scipion finds


def test_scipion_finds_the_plugin(domain) -> None:
    assert domain.getPlugins()["cryosiam_plugin"] is cryosiam_plugin


def test_the_reference_can_be_cited(domain) -> None:
    [reference] = cryosiam_plugin._references
    entry = cryosiam_plugin._bibtex[reference]
    assert entry["doi"] == "10.1101/2025.11.11.687379"
    assert entry["author"].startswith("Stojanovska, Frosina and ")
    assert "\n" not in "".join(entry.values())


def test_the_icon_is_one() -> None:
    with Image.open(PACKAGE / cryosiam_plugin._logo) as icon:
        assert icon.format == "PNG"
        assert icon.size == (64, 64)


def tree(entries: list, place: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Where each protocol is in a protocols.conf."""
    found = {}
    for entry in entries:
        if entry["tag"] == "protocol":
            found[entry["value"]] = place
        else:
            found.update(tree(entry["children"], (*place, entry["text"])))
    return found


def groups(entries: list, place: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The kind of every section and group, by where it is."""
    found = {}
    for entry in entries:
        if entry["tag"] != "protocol":
            here = (*place, entry["text"])
            found[here] = entry["tag"]
            found.update(groups(entry["children"], here))
    return found


def conf(folder: Path) -> list:
    parser = configparser.ConfigParser()
    parser.optionxform = str
    parser.read(folder / "protocols.conf")
    return json.loads(parser["PROTOCOLS"]["Tomography"])


def test_protocols_are_in_groups_that_tomo_has() -> None:
    import tomo

    assert tree(conf(PACKAGE)) == {
        "ProtCryosiamImportModel": ("Imports",),
        "ProtCryosiamDenoise": ("Tomograms", "Denoise"),
        "ProtCryosiamLamella": ("Tomograms", "Segmentation"),
        "ProtCryosiamSemantic": ("Tomograms", "Segmentation"),
        "ProtCryosiamInstances": ("Tomograms", "Segmentation"),
        "ProtCryosiamInstanceFilter": ("Tomograms", "Segmentation"),
        "ProtCryosiamMasksFromCoordinates": ("Tomograms", "Segmentation"),
        "ProtCryosiamTrainSemantic": ("Tomograms", "Segmentation"),
        "ProtCryosiamParticles": ("Particles", "Picking"),
        **dict.fromkeys(
            ("ProtCryosiamEmbeddings", "ProtCryosiamClusters", "ProtCryosiamSelection"),
            ("Subtomogram averaging", "Classification and Alignment"),
        ),
    }
    theirs = groups(conf(Path(tomo.__file__).parent))
    for place, kind in groups(conf(PACKAGE)).items():
        assert theirs[place] == kind


def test_every_protocol_of_the_tree_exists(domain) -> None:
    protocols = domain.getProtocols()
    for name in tree(conf(PACKAGE)):
        assert name in protocols


def test_every_class_name_is_ours_alone(domain) -> None:
    """Scipion's names are one space for all plugins."""
    for classes in (domain.getProtocols(), domain.getObjects(), domain.getViewers()):
        for name, found in classes.items():
            # Reading a database adds its own entries, which are no classes.
            if isinstance(found, type) and found.__module__.split(".")[0] == "cryosiam_plugin":
                assert "Cryosiam" in name


# ------------------------------------------------------------------ variables


def test_every_variable_is_typed_and_explained(domain) -> None:
    declared = {
        name: variable
        for name, variable in VariablesRegistry.variables().items()
        if name.startswith("CRYOSIAM_")
    }
    assert {name: variable.var_type for name, variable in declared.items()} == TYPES
    for variable in declared.values():
        assert len(variable.description) > 30


def test_defaults_lie_in_scipions_software(variables) -> None:
    variables()
    settings = Plugin.getLaunchSettings()
    assert settings.runtime == "auto"
    assert re.search(r"/cryosiam_engine-[\d.]+/env/bin/python$", settings.engine_python), (
        settings.engine_python
    )
    assert settings.models.endswith("/cryosiam_models-1.0")
    assert re.search(r"/cryosiam_sif-[\d.]+/cryosiam-engine.sif$", settings.sif), settings.sif
    assert settings.installed_sif == settings.sif
    assert (settings.apptainer, settings.extra_binds) == ("", ())


def test_the_engine_is_of_the_plugins_version(variables) -> None:
    variables()
    engine = (
        Path(cryosiam_plugin.__file__).parent / "engine/cryosiam_engine/__init__.py"
    ).read_text()
    assert f'__version__ = "{Plugin.getLaunchSettings().version}"' in engine


def test_variables_are_expanded(variables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data/x")
    variables(
        CRYOSIAM_RUNTIME=" Native ",
        CRYOSIAM_SIF="~/engine.sif",
        CRYOSIAM_MODELS="~/models",
        CRYOSIAM_ENGINE_PYTHON="/opt/env/bin/python",
        CRYOSIAM_EXTRA_BINDS="/scratch, $SOMEWHERE:/data:ro,",
    )
    home = os.environ["HOME"]
    settings = Plugin.getLaunchSettings()
    assert settings.runtime == "native"
    assert settings.sif == f"{home}/engine.sif" != settings.installed_sif
    assert Plugin.getModelsFolder() == settings.models == f"{home}/models"
    assert settings.engine_python == "/opt/env/bin/python"
    assert settings.extra_binds == ("/scratch", "/data/x:/data:ro")


# ------------------------------------------------------------------ is it installed?


def test_a_missing_engine_is_named_with_a_remedy(variables) -> None:
    variables(CRYOSIAM_ENGINE_PYTHON="/no/such/python")
    problems = Plugin.validateInstallation()
    assert "/no/such/python" in problems[0]
    assert "scipion3 installb cryosiam_engine" in problems[1]


def test_an_installed_engine_is_fine(variables, engine_python: str) -> None:
    variables(CRYOSIAM_ENGINE_PYTHON=engine_python)
    assert Plugin.validateInstallation() == []


def test_the_answer_is_remembered_and_follows_the_settings(
    variables, engine_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables(CRYOSIAM_ENGINE_PYTHON=engine_python)
    asked = []
    monkeypatch.setattr(cryosiam_plugin, "choose_runtime", asked.append)
    for _ in range(100):
        assert Plugin.validateInstallation() == []
    assert len(asked) == 1
    monkeypatch.setenv("CRYOSIAM_ENGINE_PYTHON", "/no/such/python")
    Plugin._defineVariables()
    Plugin.validateInstallation()
    assert len(asked) == 2
    monkeypatch.setattr(cryosiam_plugin.time, "monotonic", lambda: 1e12)
    Plugin.validateInstallation()
    assert len(asked) == 3


def test_validation_never_raises(variables, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: object) -> None:
        raise RuntimeError("the disk is gone")

    variables()
    monkeypatch.setattr(cryosiam_plugin, "choose_runtime", broken)
    assert Plugin.validateInstallation() == [
        "CryoSiam's installation cannot be checked: the disk is gone"
    ]


@pytest.mark.slow
def test_the_host_side_never_imports_torch_nor_the_engine(domain) -> None:
    program = (
        "import sys, pyworkflow; pyworkflow.Config.getDomain().getProtocols();"
        "pyworkflow.Config.getDomain().getObjects(); import cryosiam_plugin.convert;"
        "sys.exit(bool({'torch', 'monai', 'cryosiam_engine'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-O", "-c", program]).returncode == 0


def test_the_environment_has_no_scipion_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/scipion")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/scipion/lib")
    environ = Plugin.getEnviron()
    assert isinstance(environ, Environ)
    assert environ.getPrepend() == ""
    assert "PYTHONPATH" not in environ
    assert "LD_LIBRARY_PATH" not in environ
    assert environ["PATH"] == os.environ["PATH"]


# ------------------------------------------------------------------ the published models


def test_the_models_are_those_of_the_engine(engine_python: str) -> None:
    out = subprocess.run(
        [engine_python, "-I", "-m", "cryosiam_engine.cli", "models", "list", "--json"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    engines = json.loads(out)
    published = [model for model in engines if not model["built_in"]]
    built_in = [model for model in engines if model["built_in"]]
    keys = ("name", "file", "task", "description", "masking_type", "recommended")
    for ours, of_engine, more in (
        (Plugin.publishedModels(), published, ("revision", "url", "sha256")),
        (Plugin.builtInModels(), built_in, ("voxel_size",)),
    ):
        assert len(ours) == len(of_engine)
        for model, theirs in zip(ours, of_engine):
            for key in (*keys, *more):
                assert getattr(model, key) == theirs[key]
            assert {str(label): name for label, name in model.classes.items()} == theirs["classes"]


def test_keys_of_a_newer_list_do_not_hurt(tmp_path: Path) -> None:
    newer = tmp_path / "models.yaml"
    newer.write_text(MODELS_FILE.read_text("utf-8").replace("  task:", "  colour: red\n  task:"))
    assert read_published_models(newer) == read_published_models()


# ------------------------------------------------------------------ what can be installed


class Recorder:
    """Takes what defineBinaries declares, and executes nothing."""

    def __init__(self) -> None:
        self.packages: dict[tuple[str, str], dict] = {}

    def addPackage(self, name: str, **options: object) -> None:
        self.packages[name, str(options["version"])] = options


def test_the_engine_is_installed_by_default_and_the_models_on_request() -> None:
    env = Recorder()
    Plugin.defineBinaries(env)
    assert env.packages["cryosiam_engine", cryosiam_plugin.__version__]["default"]
    versions = [version for name, version in env.packages if name == "cryosiam_models"]
    # The last one is what the name alone means.
    assert versions == [*(model.name for model in Plugin.publishedModels()), "1.0"]
    for version in versions:
        assert not env.packages["cryosiam_models", version]["default"]


def test_the_default_python_is_the_one_that_is_installed(variables) -> None:
    """The place that the variable points to and the one that the recipe fills."""
    variables()
    name = f"{constants.ENGINE_PACKAGE}-{cryosiam_plugin.__version__}"
    python = f"/{name}/{installation.ENVIRONMENT}/bin/python"
    assert Plugin.getLaunchSettings().engine_python.endswith(python)
    models = f"/{constants.MODELS_PACKAGE}-{constants.MODELS_VERSION}"
    assert Plugin.getModelsFolder().endswith(models)


def test_the_recipe_does_not_depend_on_the_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Recorder(), Recorder()
    Plugin.defineBinaries(first)
    for name in ("PATH", "HOME", "CONDA_ACTIVATION_CMD"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setattr(subprocess, "run", None)
    Plugin.defineBinaries(second)
    assert first.packages == second.packages


def test_scipion_takes_the_recipe(domain) -> None:
    """With scipion-app's own class, as ``installb --help`` does."""
    funcs = pytest.importorskip("scipion.install.funcs")
    env = funcs.Environment()
    env.setDefault(False)
    Plugin.defineBinaries(env)
    shown = env.printHelp()
    for name in ("cryosiam_engine", "cryosiam_models", "cryosiam_sif"):
        assert name in shown
        # The part before the first hyphen is what Scipion finds a package by.
        assert "-" not in name


@pytest.mark.slow
def test_the_engine_is_installed_by_the_script(tmp_path: Path) -> None:
    """The real script and a real virtual environment, with an empty engine and no PyTorch."""
    source = tmp_path / "the engine"
    (source / "small_engine").mkdir(parents=True)
    (source / "small_engine/__init__.py").write_text("def main():\n    print('small 1.0')\n")
    (source / "setup.py").write_text(
        "from setuptools import setup\n"
        "setup(name='small-engine', version='1.0', packages=['small_engine'],\n"
        "      entry_points={'console_scripts': ['cryosiam-engine=small_engine:main']})\n"
    )
    before = sorted(source.rglob("*"))
    source.chmod(0o555)
    [(command, [target])] = engine_commands(source, torch="pip")
    package = tmp_path / "package"
    package.mkdir()
    dirty = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(["/bin/sh", "-c", command], cwd=package, env=dirty)
    if done.returncode:
        pytest.skip("pip cannot build here (no setuptools to be had)")
    assert (package / target).read_text() == "small 1.0\n"
    assert (package / "env/bin/python").exists()
    assert sorted(source.rglob("*")) == before, "nothing is written into the plugin's folder"


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["torch", "source"])
def test_a_failed_installation_leaves_no_target(broken: str, tmp_path: Path) -> None:
    source = "/no/such/source" if broken == "source" else str(tmp_path)
    torch = "./no-such-file.whl" if broken == "torch" else "pip"
    words = ["bash", str(INSTALL_SCRIPT), "env", source, torch, "target"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    assert done.returncode != 0
    assert not (tmp_path / "target").exists()


def test_without_python_and_conda_the_remedy_is_told(tmp_path: Path) -> None:
    words = ["/bin/bash", str(INSTALL_SCRIPT), "env", "/x", "pip", "target"]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={"PATH": "/nowhere", "CONDA_ACTIVATION_CMD": "false &&"},
        stderr=subprocess.PIPE,
    )
    assert done.returncode != 0
    assert b"CONDA_ACTIVATION_CMD" in done.stderr


def test_conda_is_used_where_there_is_no_python(tmp_path: Path) -> None:
    """Activated as scipion.conf says: the conda here writes down what it is asked for."""
    conda = tmp_path / "hidden" / "conda"
    conda.parent.mkdir()
    conda.write_text('#!/bin/sh\nprintf "%s " "$@" > asked\nexit 3\n')
    conda.chmod(0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("mktemp", "cp", "rm", "sh"):
        (tools / name).symlink_to(f"/bin/{name}")
    environment = {
        "PATH": str(tools),
        "CONDA_ACTIVATION_CMD": f"PATH=$PATH:{conda.parent} && ",
    }
    words = ["/bin/bash", str(INSTALL_SCRIPT), "env", "/x", "pip", "target"]
    done = subprocess.run(words, cwd=tmp_path, env=environment)
    assert done.returncode == 3
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:2] == ["create", "--yes"]
    assert str(tmp_path / "env") in asked
    assert "conda-forge" in asked
    assert "--override-channels" in asked


# ------------------------------------------------------------------ the distribution


@pytest.mark.slow
def test_the_wheel_has_everything(tmp_path: Path) -> None:
    """Also through a source archive, as ``python -m build`` makes it."""
    pytest.importorskip("build")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(REPOSITORY)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if b"Could not find a version that satisfies" in done.stdout:
        pytest.skip("no setuptools to be had to build with")
    assert done.returncode == 0, done.stdout.decode()[-2000:]
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        metadata = next(name for name in names if name.endswith("METADATA"))
        top_level = next(name for name in names if name.endswith("top_level.txt"))
        assert archive.read(top_level).decode().split() == ["cryosiam_plugin"]
        assert "cryosiam_plugin = " in archive.read(entry_points).decode()
        assert "Requires-Dist: scipion-em-tomo" in archive.read(metadata).decode()
    tracked = {
        str(path.relative_to(REPOSITORY))
        for path in PACKAGE.rglob("*")
        if path.is_file()
        and path.suffix in {".py", ".yaml", ".toml", ".conf", ".png", ".sh", ".typed"}
        and not {"__pycache__", "build"} & set(path.parts)
    }
    assert tracked <= names
    assert not any("egg-info" in name or name.endswith(".pyc") for name in names)


def test_versions_agree() -> None:
    engine = PACKAGE / "engine"
    source = (engine / "cryosiam_engine/__init__.py").read_text("utf-8")
    version = re.search(r'__version__ = "(.+)"', source)
    assert version is not None
    assert version[1] == cryosiam_plugin.__version__
    project = (engine / "pyproject.toml").read_text("utf-8")
    oldest = re.search(r'"torch>=([\d.]+)"', project)
    installed = re.fullmatch(r"torch==([\d.]+)", constants.TORCH_REQUIREMENT)
    assert oldest is not None
    assert installed is not None
    assert Version(installed[1]) >= Version(oldest[1])


def test_no_assert_decides_anything() -> None:
    """Scipion's GUI runs Python with -O."""
    for path in PACKAGE.rglob("*.py"):
        if not {"tests", "engine"} & set(path.relative_to(PACKAGE).parts):
            assert not re.search(r"^\s*assert ", path.read_text("utf-8"), re.M), path
