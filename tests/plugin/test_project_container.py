"""The workflows through the container: the same results as without it, and a record of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import yaml
from embedding_data import network
from scipion_projects import VOXEL_SIZE, Project, said
from workflow import DataSet, Workflow, by_ts_id

from cryosiam_plugin.launcher import engine_environment

pytestmark = [pytest.mark.slow, pytest.mark.container]

SHAPE = (32, 64, 64)
#: Members, in the order of their making, with one that only counts and one without a network.
MEMBERS = ("denoised", "lamella", "semantic", "particles", "instances", "near")
#: These have numbers instead of volumes.
EMBEDDED = ("embedded", "clusters")


@pytest.fixture(scope="module")
def sif() -> Path:
    sys.path.append(str(Path(__file__).parents[1] / "containers"))
    import container_builds

    return container_builds.sif()


@pytest.fixture(scope="module")
def chain(domain, engine_python, sif):
    """Workflows 1 and 2 by our own protocols, every engine call in the container."""
    from cryosiam_plugin import Plugin
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    data = DataSet(
        folder=simulated_tomograms(2, SHAPE),
        pattern="TS_*.mrc",
        voxel_size=VOXEL_SIZE,
        ts_ids=["TS_01", "TS_02"],
        shape=SHAPE,
        lamella_threshold=0.2,
    )
    models = small_models()
    project = Project("container", engine_python)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRYOSIAM_RUNTIME", "apptainer")
        patch.setenv("CRYOSIAM_SIF", str(sif))
        Plugin._defineVariables()
        workflow = Workflow(project, data, models).run(seconds=1200, downstream=False)
        _embed_and_cluster(workflow)
        yield workflow
    Plugin._defineVariables()


def _embed_and_cluster(workflow: Workflow) -> None:
    """Embeddings of the instances, and their clusters."""
    from cryosiam_plugin.protocols import ProtCryosiamClusters, ProtCryosiamEmbeddings

    source = {
        "inputTomograms": (workflow["denoised"], "denoisedTomograms"),
        "inputInstances": (workflow["instances"], "instanceMasks"),
    }
    run = workflow.project.run
    embedded = run(
        ProtCryosiamEmbeddings, source=0, masking=1, makeMap=False, **source, **network()
    )
    clusters = run(
        ProtCryosiamClusters,
        inputEmbeddings=(embedded, "embeddings"),
        numberOfClusters=3,
        makeMap=False,
    )
    workflow.members.update(embedded=embedded, clusters=clusters)
    for member in EMBEDDED:
        assert workflow[member].isFinished(), said(workflow[member])


@pytest.fixture(scope="module")
def native(chain, engine_python, tmp_path_factory) -> dict[str, Path]:
    """The results of the very same engine calls without the container, by member."""
    folder = tmp_path_factory.mktemp("native")
    every = (*MEMBERS, *EMBEDDED)
    return {member: _again(chain[member], engine_python, folder / member) for member in every}


def _again(protocol, engine_python: str, folder: Path) -> Path:
    """Repeat a run's engine calls, with its own configuration, into another folder."""
    extra = Path(protocol._getExtraPath()).absolute()
    config = yaml.safe_load((extra / "run.yaml").read_text("utf-8"))
    folder.mkdir()
    # What the filter works on lies in its prediction folder before it starts.
    for link in filter(Path.is_symlink, Path(config["prediction_folder"]).iterdir()):
        shutil.copy(link, folder)
    config["prediction_folder"] = str(folder)
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    scripts = sorted(extra.glob("engine/*.sh"), key=lambda path: int(path.stem.split("_")[1]))
    for script in scripts:
        words = shlex.split(script.read_text("utf-8").splitlines()[-1])
        argv = words[words.index("cryosiam-engine") + 1 :]
        argv[argv.index("--config_file") + 1] = str(folder / "run.yaml")
        command = [engine_python, "-I", "-m", "cryosiam_engine.cli", *argv]
        done = subprocess.run(command, env=engine_environment(os.environ), capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
    assert scripts
    return folder


@pytest.mark.parametrize("member", MEMBERS)
def test_every_result_is_the_same(chain, native, member: str) -> None:
    ours, theirs = Path(chain[member]._getExtraPath("predictions")), native[member]
    if member == "near":
        ours, theirs = (path.with_name(f"{path.name}_filtered") for path in (ours, theirs))
    volumes = sorted(path.name for path in theirs.glob("*.mrc"))
    assert {"TS_01", "TS_02"} == {name[:5] for name in volumes}, said(chain[member])
    for name in volumes:
        with mrcfile.open(ours / name) as a, mrcfile.open(theirs / name) as b:
            np.testing.assert_array_equal(a.data, b.data)
            assert a.voxel_size == b.voxel_size
    for table in theirs.glob("*.csv"):
        assert (ours / table.name).read_bytes() == table.read_bytes()


def numbers_in(folder: Path) -> dict[str, np.ndarray]:
    """Every array in the HDF5 files of a folder, by file and name."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.rglob("*.h5")):
        with h5py.File(path) as file:
            arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
            found.update({f"{path.name}/{name}": item[()] for name, item in arrays.items()})
    return found


@pytest.mark.parametrize("member", EMBEDDED)
def test_every_number_is_the_same(chain, native, member: str) -> None:
    ours, theirs = Path(chain[member]._getExtraPath("predictions")), native[member]
    a, b = numbers_in(ours), numbers_in(theirs)
    assert a.keys() == b.keys(), said(chain[member])
    assert len([name for name in a if name.endswith("/embeddings")]) >= 2
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name)
    tables = sorted(path.relative_to(theirs) for path in theirs.rglob("*.csv"))
    for table in tables:
        assert (ours / table).read_bytes() == (theirs / table).read_bytes()
    assert tables or member == "embedded"


def test_scipion_has_every_output(chain) -> None:
    outputs = {
        "denoised": "denoisedTomograms",
        "lamella": "lamellaMasks",
        "semantic": "semanticMasks",
        "instances": "instanceMasks",
        "near": "instanceMasks",
    }
    for member, output in outputs.items():
        assert sorted(by_ts_id(getattr(chain[member], output))) == chain.data.ts_ids
    assert chain["particles"].coordinates.getSize() > 0


def test_the_engine_did_run_in_the_image(chain, sif: Path) -> None:
    recorded = sif.with_name(f"{sif.name}.sha256").read_text().split()[0]
    for member in (*MEMBERS, *EMBEDDED):
        # What a methods section needs to name exactly that image.
        methods = "\n".join(chain[member].methods())
        assert f"in the container image {sif.name} (SHA-256 {recorded})" in methods
        extra = Path(chain[member]._getExtraPath())
        statuses = list(extra.glob("predictions*/status/**/*.json"))
        assert statuses
        for path in statuses:
            image = json.loads(path.read_text("utf-8"))["origin"]["image"]
            assert image["path"] == str(sif.resolve()), said(chain[member])
            assert image["sha256"] == recorded
        for command in extra.glob("engine/*.sh"):
            assert f"{shutil.which('apptainer')} exec --bind" in command.read_text("utf-8")


def test_scipion_in_a_container_takes_the_native_engine(sif, engine_python, tmp_path) -> None:
    """As on a cluster whose Scipion is an image: this computer's programs stand for its content.

    Around it is a real container, and the image that it cannot start in there is a real one.
    """
    program, answer = Path(__file__).with_name("nested_project.py"), tmp_path / "answer.json"
    python = Path(engine_python)
    seen = {sys.prefix, sys.base_prefix, python.parents[1], python.resolve().parents[1], "/usr"}
    seen |= {program.parents[2], os.environ["SCIPION_HOME"], os.environ["SCIPION_USER_DATA"]}
    binds = [word for path in sorted(map(str, seen)) for word in ("--bind", path)]
    words = ["apptainer", "exec", *binds, "--pwd", tmp_path, sif, sys.executable, program]
    done = subprocess.run(
        [*map(str, words), engine_python, str(sif), str(answer)], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(answer.read_text("utf-8"))
    assert told["finished"], told["log"]
    assert told["validation"] == []
    for command in told["commands"]:
        assert f"{engine_python} -I -m cryosiam_engine.cli" in command
    assert f"Scipion itself runs in a container ({sif})" in told["log"]
    assert "The engine runs in its own environment." in told["log"]
    # For the record it is in an image all the same: Scipion's.
    assert [image["path"] for image in told["images"]] == [str(sif)]
