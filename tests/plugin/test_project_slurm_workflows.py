"""Workflows 1 and 2 on every road to Slurm: what comes out is what comes out without it.

By default a few tomograms, and three protocols of the chain, each on another road. For all of it
set CRYOSIAM_SLURM_TOMOGRAMS=12 and CRYOSIAM_SLURM_ROADS="array steps protocol array+container
steps+container protocol+container", or some of these.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from scipion_projects import VOXEL_SIZE, Project, processes_of, said, wait_for
from test_project_slurm import jobs
from watched_engine import watched_engine
from workflow import DataSet
from workflow_roads import (
    ARRAY,
    HERE,
    MEMBERS,
    PROTOCOL,
    STEPS,
    RoadWorkflow,
    differences,
    objects_of,
    results_of,
    scripts_of,
)

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("slurm", "containers")]
from shared_cluster import locked, running_cluster

# Of twelve tomograms the whole chain takes its time.
pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

SHAPE = (32, 64, 64)
NUMBER = int(os.environ.get("CRYOSIAM_SLURM_TOMOGRAMS", "2"))
IDS = [f"TS_{number:02d}" for number in range(1, NUMBER + 1)]
#: Each road once, with protocols of one command and of two, and with masks beside tomograms.
MIXED = {"lamella": PROTOCOL, "particles": ARRAY, "instances": STEPS}
JOURNEYS = os.environ.get("CRYOSIAM_SLURM_ROADS", "mixed").split()
#: Engine commands that each tomogram goes through, where it is not one.
COMMANDS = {"semantic": 2, "particles": 2}


@pytest.fixture(scope="module")
def project(domain, engine_python):
    """A project that knows Slurm as our configuration of Scipion's queue has it."""
    from pyworkflow import Config

    import cryosiam_plugin

    hosts = str(Path(cryosiam_plugin.__file__).parent / "templates" / "hosts.slurm.conf")
    with running_cluster(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIPION_HOSTS", hosts)
        patch.setattr(Config, "SCIPION_HOSTS", hosts)
        yield Project("slurmworkflows", engine_python)


@pytest.fixture(scope="module")
def home(project):
    """The chain without Slurm, as far as it is needed."""
    from cryosiam_plugin.tests.synthetic import simulated_tomograms, small_models

    data = DataSet(
        folder=simulated_tomograms(NUMBER, SHAPE),
        pattern="TS_*.mrc",
        voxel_size=VOXEL_SIZE,
        ts_ids=IDS,
        shape=SHAPE,
        lamella_threshold=0.2,
    )
    members = ("denoised", *MIXED) if JOURNEYS == ["mixed"] else MEMBERS
    return RoadWorkflow(project, data, small_models(), roads=dict.fromkeys(members, HERE)).go()


@pytest.fixture(scope="module", params=JOURNEYS)
def journey(request, home, engine_python, tmp_path_factory):
    """The chain on Slurm, with a GPU for each network; what is not on a road is that of home."""
    name, _, runtime = request.param.partition("+")
    roads = MIXED if name == "mixed" else dict.fromkeys(MEMBERS, name)
    folder = tmp_path_factory.mktemp("watch")
    watching = watched_engine(engine_python, folder, in_container=bool(runtime))
    with locked("turn"), _container() if runtime else nullcontext(), watching as watch:
        chain = RoadWorkflow(home.project, home.data, home.models, {}, roads, home, watch).go()
        wait_for(lambda: not jobs(), "an empty queue", 60)
        yield chain


@contextmanager
def _container() -> Iterator[None]:
    """Every engine process in the container meanwhile."""
    import container_builds

    from cryosiam_plugin import Plugin

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRYOSIAM_RUNTIME", "apptainer")
        patch.setenv("CRYOSIAM_SIF", str(container_builds.sif()))
        Plugin._defineVariables()
        yield
    Plugin._defineVariables()


def test_every_file_is_bit_for_bit_that_of_home(journey, home) -> None:
    for member in journey.roads:
        here, there = results_of(home[member]), results_of(journey[member])
        assert {Path(path).name[:5] for path in here} == set(IDS)
        assert sorted(there) == sorted(here), said(journey[member])
        different = [path for path, content in here.items() if there[path] != content]
        assert not different, f"{member}: {different}"


def test_scipion_knows_the_same_of_every_item(journey, home) -> None:
    """Outputs and their items: coordinates, ids, scores, classes, sizes; and nothing failed."""
    for member in journey.roads:
        here, there = objects_of(home[member]), objects_of(journey[member])
        different = differences(here, there)
        assert not different, f"{member}: {different}\n{said(journey[member])}"
        assert here
        assert "failedTomograms" not in here


def test_every_member_took_its_road(journey) -> None:
    """Each tomogram in one task, or job, of each command."""
    for member, road in journey.roads.items():
        scripts = scripts_of(journey[member], road)
        number = NUMBER * COMMANDS.get(member, 1)
        if road == ARRAY:
            tasks = [re.search(r"--array=0-(\d+)", script) for script in scripts]
            assert sum(int(last.group(1)) + 1 for last in tasks) == number
        else:
            assert len(scripts) == (number if road == STEPS else 1)


def test_every_network_had_a_gpu_of_its_own(journey) -> None:
    """The one that Slurm gave it; what is no network asked for none."""
    journey.watch.check()
    for member, road in journey.roads.items():
        seen = journey.watch.seen(Path(journey[member]._getPath()))
        on_gpus = [one for one in seen if one["device"] == "cuda"]
        tomograms = [stem for one in on_gpus for stem in one["stems"]]
        assert sorted(tomograms) == (IDS if member in journey.on_gpus else [])
        assert all(one["visible"] == one["given"] in ("0", "1") for one in on_gpus)
        if road != PROTOCOL:  # there all commands share the job's
            others = [one for one in seen if one not in on_gpus]
            assert all(one["given"] is None for one in others)
            assert len(seen) == NUMBER * COMMANDS.get(member, 1)


def test_the_engine_was_where_it_should_be(request, journey) -> None:
    """In the container or without it, as every status file says."""
    is_inside = "container" in request.node.callspec.params["journey"]
    for member in journey.roads:
        extra = Path(journey[member]._getExtraPath())
        records = list(extra.glob("predictions*/status/**/TS_*.json"))
        assert len(records) == NUMBER * COMMANDS.get(member, 1)
        for path in records:
            status = json.loads(path.read_text("utf-8"))
            assert status["state"] == "done"
            assert (status["origin"]["image"] is not None) == is_inside


def test_nothing_goes_on(journey) -> None:
    assert jobs() == []
    for member in journey.roads:
        assert processes_of(journey[member]) == ([], [])
