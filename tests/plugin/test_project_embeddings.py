"""Embeddings, clusters, the map and selections in real projects, from particles of three kinds."""

from __future__ import annotations

import csv
import http.client
import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import h5py
import numpy as np
import pytest
from embedding_data import (
    BOX,
    IDS,
    import_coordinates,
    import_fine,
    import_masks,
    make_subtomograms,
    network,
    simulation,
    true_centres,
)
from scipion_projects import VOXEL_SIZE, Project, model, outputs_of, said

pytestmark = pytest.mark.slow

N_CLUSTERS = 3


@pytest.fixture(scope="module")
def project(domain, engine_python):
    return Project("embeddings", engine_python)


@pytest.fixture(scope="module")
def tomograms(project):
    return project.import_tomograms(simulation() / "tomograms")


@pytest.fixture(scope="module")
def coordinates(project):
    fine = import_fine(project, project.path / "fine")
    return import_coordinates(project, fine, project.path / "picked")


def finished(protocol):
    assert protocol.isFinished(), said(protocol)
    return protocol


@pytest.fixture(scope="module")
def of_instances(project, tomograms):
    """The embeddings of instance masks."""
    from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

    masks = import_masks(project, tomograms, project.path / "masks")
    return finished(
        project.run(
            ProtCryosiamEmbeddings,
            source=0,
            inputTomograms=(tomograms, "Tomograms"),
            inputInstances=(masks, "tomomasks"),
            masking=1,
            **network(),
        )
    )


@pytest.fixture(scope="module")
def of_coordinates(project, tomograms, coordinates):
    """The embeddings around coordinates that were picked in finer tomograms."""
    from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

    return finished(
        project.run(
            ProtCryosiamEmbeddings,
            source=1,
            inputTomograms=(tomograms, "Tomograms"),
            inputParticles=(coordinates, "outputCoordinates"),
            makeMap=False,
            **network(),
        )
    )


@pytest.fixture(scope="module")
def of_subtomograms(project, tomograms, coordinates):
    """The embeddings of subtomograms, where they come from."""
    from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

    subtomograms = make_subtomograms(project, coordinates, project.path / "boxes")
    return finished(
        project.run(
            ProtCryosiamEmbeddings,
            source=1,
            inputTomograms=(tomograms, "Tomograms"),
            inputParticles=(subtomograms, "subtomograms"),
            makeMap=False,
            **network(),
        )
    )


def clustered(project, embedded, **parameters):
    from cryosiam_plugin.protocols import ProtCryosiamClusters

    parameters = {"numberOfClusters": N_CLUSTERS, "representativesPerCluster": 2, **parameters}
    return finished(
        project.run(ProtCryosiamClusters, inputEmbeddings=(embedded, "embeddings"), **parameters)
    )


@pytest.fixture(scope="module")
def clusters_of_instances(project, of_instances):
    return clustered(project, of_instances)


@pytest.fixture(scope="module")
def clusters_of_coordinates(project, of_coordinates):
    return clustered(project, of_coordinates)


def items_of(output):
    found = [item.clone() for item in output.iterItems()]
    output.close()
    return found


def embeddings_in(protocol, ts_id):
    folder = Path(protocol._getExtraPath("predictions"))
    with h5py.File(folder / f"{ts_id}_embeds.h5") as file:
        embeddings = file["embeddings"][()]
    with h5py.File(folder / f"{ts_id}_instance_labels.h5") as file:
        return embeddings, file["labels"][()]


class TestInstances:
    def test_every_instance_is_a_particle_at_its_centre(self, of_instances, tomograms):
        from tomo.objects import SetOfCoordinates3D

        from cryosiam_plugin.convert import index_of

        particles = of_instances.particles
        assert type(particles) is SetOfCoordinates3D
        assert particles.getSamplingRate() == pytest.approx(VOXEL_SIZE, rel=1e-4)
        assert particles.getBoxSize() > 2
        assert particles.getPrecedents().getObjId() == tomograms.Tomograms.getObjId()
        by_ts_id = {}
        for coordinate in particles.iterCoordinates():
            by_ts_id.setdefault(coordinate.getTomoId(), []).append(
                (coordinate._instanceId.get(), coordinate._nVoxels.get(), *index_of(coordinate))
            )
        assert sorted(by_ts_id) == IDS
        for ts_id, found in by_ts_id.items():
            _, labels = embeddings_in(of_instances, ts_id)
            assert [row[0] for row in found] == list(labels)
            centres = true_centres(ts_id)
            for label, n_voxels, *index in found:
                assert n_voxels > 0
                # The network's box grows by some voxels around the instance, and may be cut.
                assert np.abs(np.array(index) - centres[label - 1]).max() < 2

    def test_the_object_knows_all_that_clustering_needs(self, of_instances):
        made = of_instances.embeddings
        embeddings, _ = embeddings_in(of_instances, "TS_01")
        assert made.getDim() == len(embeddings)
        assert made.getSize() == of_instances.particles.getSize()
        assert made.getPatchSize() == 16
        assert made.getParticles().getObjId() == of_instances.particles.getObjId()
        assert made.getTomograms().getSize() == len(IDS)
        assert len(made.getSha256()) == 64
        assert made.getModelName()
        assert Path(made.getFolder()).is_dir()
        assert not Path(made.getFolder()).is_absolute()

    def test_the_rows_are_those_of_the_files(self, of_instances):
        for ts_id in IDS:
            _, labels = embeddings_in(of_instances, ts_id)
            mine = [p for p in items_of(of_instances.particles) if p.getTomoId() == ts_id]
            assert [labels[p._embeddingRow.get()] for p in mine] == [
                p._instanceId.get() for p in mine
            ]

    def test_there_is_a_map(self, of_instances):
        assert of_instances.mapPage().is_file(), of_instances.summary()
        assert any("Analyze Results" in line for line in of_instances.summary())

    def test_the_summary(self, of_instances):
        text = "\n".join(of_instances.summary())
        assert f"{of_instances.particles.getSize()} particles described" in text
        assert outputs_of(of_instances) == ["embeddings", "particles"]
        assert "convex hull" in of_instances.methods()[0]

    def test_our_own_instances(self, project, tomograms):
        """From instance segmentation: scores and classes stay with the particles."""
        from cryosiam_plugin.protocols import ProtCryosiamEmbeddings, ProtCryosiamInstances
        from cryosiam_plugin.tests.synthetic import small_models

        found = finished(
            project.run(
                ProtCryosiamInstances,
                inputTomograms=(tomograms, "Tomograms"),
                thresholdForeground=0.5,
                minCenterDistance=0.5,
                maxCenterDistance=3.0,
                numberOfThreads=3,
                **model(small_models(), "instance"),
            )
        )
        instances = {
            (c.getTomoId(), c._instanceId.get()): c
            for c in items_of(found.coordinates)
            if c._nVoxels.get() >= 10
        }
        run = finished(
            project.run(
                ProtCryosiamEmbeddings,
                source=0,
                inputTomograms=(tomograms, "Tomograms"),
                inputInstances=(found, "instanceMasks"),
                masking=2,
                minimumVoxels=10,
                makeMap=False,
                **network(),
            )
        )
        described = items_of(run.particles)
        assert {(c.getTomoId(), c._instanceId.get()) for c in described} == set(instances)
        for coordinate in described:
            source = instances[coordinate.getTomoId(), coordinate._instanceId.get()]
            assert coordinate.getScore() == pytest.approx(source.getScore())
            assert coordinate._nVoxels.get() == source._nVoxels.get()
            for name in ("_x", "_y", "_z", "_groupId", "_className"):
                mine, theirs = getattr(coordinate, name).get(), getattr(source, name).get()
                assert mine == (theirs if isinstance(theirs, str) else pytest.approx(theirs))


class TestClusters:
    def test_what_the_engine_says_stands_on_the_particles(self, clusters_of_instances):
        folder = Path(clusters_of_instances._getExtraPath("predictions"))
        with (folder / "kmeans_clusters.csv").open() as stream:
            rows = {(row["tomo"], int(row["label"])): row for row in csv.DictReader(stream)}
        particles = items_of(clusters_of_instances.particles)
        assert len(particles) == len(rows)
        for particle in particles:
            row = rows[particle.getTomoId(), particle._instanceId.get()]
            assert particle._cluster.get() == particle.getGroupId() == int(row["cluster"])
            distance = float(row["distance_to_center"])
            assert particle._clusterDistance.get() == pytest.approx(distance, abs=1e-4)
            assert particle._clusterRank.get() == int(row["rank"])
        assert {particle._cluster.get() for particle in particles} == {1, 2, 3}

    def test_representatives_are_the_nearest_of_each(self, clusters_of_instances):
        typical = items_of(clusters_of_instances.representatives)
        for cluster in range(1, N_CLUSTERS + 1):
            mine = [
                p for p in items_of(clusters_of_instances.particles) if p.getGroupId() == cluster
            ]
            mine.sort(key=lambda p: p._clusterDistance.get())
            nearest = sorted(p.getObjId() for p in mine[:2])
            assert sorted(p.getObjId() for p in typical if p.getGroupId() == cluster) == nearest

    def test_the_embeddings_run_is_left_alone(self, of_instances, clusters_of_instances):
        folder = Path(of_instances._getExtraPath("predictions"))
        assert not list(folder.glob("*cluster*"))
        lent = Path(clusters_of_instances._getExtraPath("predictions", "TS_01_embeds.h5"))
        assert lent.is_symlink()
        assert lent.resolve() == (folder / "TS_01_embeds.h5").resolve()

    def test_the_summary_counts(self, clusters_of_instances):
        text = "\n".join(clusters_of_instances.summary())
        for cluster in range(1, N_CLUSTERS + 1):
            number = sum(
                p.getGroupId() == cluster for p in items_of(clusters_of_instances.particles)
            )
            assert f"Cluster {cluster}: {number} particle" in text
        assert clusters_of_instances.mapPage().is_file(), text
        assert "k-means" in clusters_of_instances.methods()[0]

    def test_the_run_can_be_repeated(self, project, of_instances, clusters_of_instances):
        again = clustered(project, of_instances, makeMap=False)
        first, second = (
            [p.getGroupId() for p in items_of(run.particles)]
            for run in (clusters_of_instances, again)
        )
        assert first == second
        assert again.mapPage() is None

    def test_no_cluster_at_all_is_said_aloud(self, project, of_instances):
        size = of_instances.particles.getSize() // 2
        run = clustered(project, of_instances, method=2, minimumClusterSize=size, makeMap=False)
        none = [p for p in items_of(run.particles) if not p._cluster.get()]
        # Half of all particles in one dense place: there is no such thing here.
        assert len(none) == run.particles.getSize()
        assert all(p._clusterRank.get() == 0 and p.getGroupId() == 0 for p in none)
        assert all(p._clusterDistance.get() == -1 for p in none)
        text = "\n".join(run.summary())
        assert "No cluster was found" in text
        assert f"In no cluster: {len(none)} particles" in text
        assert outputs_of(run) == ["particles"]


class TestCoordinates:
    def test_positions_are_converted_to_the_voxels_of_the_tomograms(self, of_coordinates):
        with Path(of_coordinates._getExtraPath("centers.csv")).open() as stream:
            rows = list(csv.DictReader(stream))
        for ts_id in IDS:
            found = np.array(
                [[float(r[f"centroid-{i}"]) for i in range(3)] for r in rows if r["tomo"] == ts_id]
            )
            # Whole voxels of the finer tomograms were written to the text files.
            assert np.abs(found - true_centres(ts_id)).max() <= 0.26
        run = Path(of_coordinates._getExtraPath("run.yaml")).read_text()
        assert f"centers_patch_size: {BOX}" in run

    def test_the_wand_takes_the_box_of_the_particles(self, of_coordinates):
        from cryosiam_plugin.wizards import CryosiamParticleEdgeWizard

        class Form:
            def __init__(self):
                self.protocol, self.values, self.said = of_coordinates, {}, []

            def setVar(self, name, value):
                self.values[name] = value

            def showInfo(self, text, title):
                self.said.append(text)

        form = Form()
        CryosiamParticleEdgeWizard().show(form, "particleEdge")
        assert form.values == {"particleEdge": BOX}
        assert f"{BOX * VOXEL_SIZE:.0f} Å" in form.said[0]

    def test_the_particles_stay_what_they_are(self, of_coordinates, coordinates):
        before = {c.getObjId(): c for c in items_of(coordinates.outputCoordinates)}
        after = items_of(of_coordinates.particles)
        assert len(after) == len(before)
        for coordinate in after:
            source = before[coordinate.getObjId()]
            for name in ("_x", "_y", "_z", "_tomoId", "_score"):
                assert getattr(coordinate, name).get() == getattr(source, name).get()
        source = coordinates.outputCoordinates
        assert of_coordinates.particles.getSamplingRate() == source.getSamplingRate()
        assert of_coordinates.particles.getBoxSize() == source.getBoxSize()
        precedents = of_coordinates.particles.getPrecedents()
        assert precedents.getObjId() == source.getPrecedents().getObjId()
        assert "converted" in "\n".join(of_coordinates.summary())

    def test_from_embeddings_to_a_subset_in_another_program(
        self, project, coordinates, clusters_of_coordinates, tmp_path
    ):
        from tomo.constants import BOTTOM_LEFT_CORNER
        from tomo.protocols import ProtExportCoordinates3D

        from cryosiam_plugin.protocols import ProtCryosiamSelection

        rows = _table(clusters_of_coordinates)
        cluster = [int(row["row"]) for row in rows if row["cluster"] == "2"]
        chosen = tmp_path / "map selection.csv"
        chosen.write_text("row,cluster\r\n" + "".join(f"{row},2\r\n" for row in cluster))
        subset = finished(
            project.run(
                ProtCryosiamSelection,
                inputParticles=(clusters_of_coordinates, "particles"),
                selectionFile=str(chosen),
            )
        )
        everything = items_of(clusters_of_coordinates.particles)
        expected = [p.getObjId() for p in everything if p.getGroupId() == 2]
        assert [p.getObjId() for p in items_of(subset.particles)] == expected
        text = "\n".join(subset.summary())
        assert f"{len(expected)} of {len(everything)} particles selected" in text
        assert f"Cluster 2: {len(expected)} particle" in text

        exported = finished(
            project.run(ProtExportCoordinates3D, inputCoordinates=(subset, "particles"))
        )
        for ts_id in subset.particles.getTSIds():
            written = np.loadtxt(Path(exported._getPath("Export")) / f"{ts_id}.txt", ndmin=2)
            mine = [
                [int(v) for v in c.getPosition(BOTTOM_LEFT_CORNER)]
                for c in subset.particles.iterCoordinates()
                if c.getTomoId() == ts_id
            ]
            assert written.tolist() == mine

    def test_a_selection_on_other_particles_is_refused(
        self, project, coordinates, of_coordinates, clusters_of_coordinates, tmp_path
    ):
        from cryosiam_plugin.protocols import ProtCryosiamSelection

        wrong = tmp_path / "wrong.csv"
        wrong.write_text("row\n999999\n")
        protocol = project.run(
            ProtCryosiamSelection,
            inputParticles=(clusters_of_coordinates, "particles"),
            selectionFile=str(wrong),
        )
        assert protocol.isFailed()
        assert "1 of the 1 selected rows" in protocol.getErrorMessage()
        for parent, output, message in (
            (coordinates, "outputCoordinates", "no map of these particles"),
            (of_coordinates, "particles", "no map of these particles"),
        ):
            protocol = project.new(
                ProtCryosiamSelection,
                inputParticles=(parent, output),
                selectionFile=str(wrong),
            )
            assert message in " ".join(protocol.validate())


class TestSubtomograms:
    def test_classes_of_subtomograms(self, project, of_subtomograms):
        from tomo.objects import SetOfClassesSubTomograms, SetOfSubTomograms

        particles = of_subtomograms.particles
        assert type(particles) is SetOfSubTomograms
        assert particles.getCoordinates3D() is not None
        run = clustered(project, of_subtomograms, makeMap=False)
        assert outputs_of(run) == ["classes", "particles", "representatives"]
        assert type(run.classes) is SetOfClassesSubTomograms
        assert type(run.particles) is SetOfSubTomograms
        members = {}
        for one in run.classes.iterItems():
            assert one.getSamplingRate() == pytest.approx(VOXEL_SIZE)
            ids = [item.getObjId() for item in one.iterItems()]
            members[one.getObjId()] = ids
            nearest = [i for i in items_of(run.particles) if i._clusterRank.get() == 1]
            (mine,) = [i for i in nearest if i._cluster.get() == one.getObjId()]
            assert one.getRepresentative().getFileName() == mine.getFileName()
        expected = {}
        for item in items_of(run.particles):
            assert item.getClassId() == item._cluster.get()
            assert item.hasCoordinate3D()
            expected.setdefault(item._cluster.get(), []).append(item.getObjId())
        assert members == expected

    def test_the_same_places_give_the_same_embeddings(self, of_coordinates, of_subtomograms):
        for ts_id in IDS:
            one, labels = embeddings_in(of_coordinates, ts_id)
            other, others = embeddings_in(of_subtomograms, ts_id)
            assert list(labels) == list(others)
            assert np.abs(one - other).max() < 1e-6

    def test_a_selection_of_subtomograms(self, project, of_subtomograms, tmp_path):
        from tomo.objects import SetOfSubTomograms

        from cryosiam_plugin.protocols import ProtCryosiamSelection

        run = clustered(project, of_subtomograms, makeMap=False)
        chosen = tmp_path / "selection.json"
        chosen.write_text(json.dumps({"rows": [0, 2]}))
        subset = finished(
            project.run(
                ProtCryosiamSelection,
                inputParticles=(run, "particles"),
                selectionFile=str(chosen),
            )
        )
        assert type(subset.particles) is SetOfSubTomograms
        assert subset.particles.getCoordinates3D() is not None
        labels = [int(row["label"]) for row in _table(run) if row["row"] in ("0", "2")]
        assert [item.getObjId() for item in items_of(subset.particles)] == sorted(labels)


class TestTheMap:
    def test_the_button_makes_a_run_in_the_project(self, project, clusters_of_instances):
        from cryosiam_plugin.viewers.viewer_map import CryosiamMapView

        view = CryosiamMapView(clusters_of_instances, project.scipion)
        server = view.serve()
        assert view.serve() is server
        try:
            address = urlsplit(server.url)
            status, body = _ask(server, "GET", f"{address.path}?{address.query}")
            assert status == 200
            assert body == clusters_of_instances.mapPage().read_bytes()
            rows = [1, 3, 4]
            data = {"token": server.token, "name": "three of them", "rows": rows}
            status, body = _ask(server, "POST", f"/{server.token}/selection", data)
            answer = json.loads(body)
            assert status == 200, answer
            assert answer["ok"]
            data["rows"] = [10**6]
            status, body = _ask(server, "POST", f"/{server.token}/selection", data)
            assert status == 409
            assert "not on the map" in json.loads(body)["message"]
        finally:
            server.close()
        (made,) = [r for r in project.scipion.getRuns() if r.getObjLabel() == "three of them"]
        project.finished(made)
        assert "three of them" in answer["message"]
        table = _table(clusters_of_instances, "embeddings_map.csv")
        expected = [(table[row]["tomo"], int(table[row]["label"])) for row in rows]
        found = [(p.getTomoId(), p._instanceId.get()) for p in items_of(made.particles)]
        assert sorted(found) == sorted(expected)
        assert "3 of" in made.summary()[0]
        assert not Path(made.selectionFile.get()).is_absolute()

    @pytest.mark.gui
    def test_a_lasso_in_the_browser_becomes_a_set(
        self, project, clusters_of_instances, engine_python
    ):
        """As the user does it: point, draw around some particles, name them, press the button."""
        from cryosiam_plugin.viewers.viewer_map import CryosiamMapView

        server = CryosiamMapView(clusters_of_instances, project.scipion).serve()
        script = Path(__file__).with_name("map_in_browser.py")
        arguments = [engine_python, str(script), server.url, "from a lasso", "[0, 2]"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        try:
            done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        finally:
            server.close()
        if done.returncode == 77:
            pytest.skip("no Chromium, or no playwright beside the engine")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert not told["complaints"]
        table = _table(clusters_of_instances, "embeddings_map.csv")
        assert table[told["hovered"]["row"]]["tomo"] in told["hovered"]["card"]
        assert {0, 2} <= set(told["selected"])
        assert "from a lasso" in told["answer"]
        (made,) = [r for r in project.scipion.getRuns() if r.getObjLabel() == "from a lasso"]
        project.finished(made)
        expected = [(table[row]["tomo"], int(table[row]["label"])) for row in told["selected"]]
        found = [(p.getTomoId(), p._instanceId.get()) for p in items_of(made.particles)]
        assert sorted(found) == sorted(expected)

    def test_analyze_results_offers_map_and_particles(
        self, project, of_instances, of_coordinates, clusters_of_instances
    ):
        from pyworkflow import Config

        from cryosiam_plugin.viewers.viewer_map import CryosiamMapView

        for run in (of_instances, clusters_of_instances):
            viewers = Config.getDomain().findViewers(run, "tkinter")
            assert viewers[0].__name__ == "CryosiamMapViewer"
            viewer = viewers[0](project=project.scipion, protocol=run)
            viewer.setProtocol(run)
            (view,) = viewer._map()
            assert isinstance(view, CryosiamMapView)
            assert view.page == run.mapPage().absolute()
            (view,) = viewer._particles()
            assert sorted(scene.name for scene in view.tomograms) == IDS
            names = {p.class_name for scene in view.tomograms for p in scene.particles()}
            if run is clusters_of_instances:
                assert names == {"cluster 1", "cluster 2", "cluster 3"}
        viewer = viewers[0](project=project.scipion, protocol=of_coordinates)
        viewer.setProtocol(of_coordinates)
        (view,) = viewer._map()
        assert "There is no map" in view.getMessage()
        found = Config.getDomain().findViewers(of_instances.embeddings, "tkinter")
        (view,) = found[0](project=project.scipion)._visualize(of_instances.embeddings)
        assert view.page == of_instances.mapPage().absolute()


def test_a_chain_that_is_scheduled_before_there_is_anything(project):
    """Particle identification, embeddings and clusters, each waiting for the one before."""
    from tomo.protocols import ProtImportTomograms

    from cryosiam_plugin.protocols import (
        ProtCryosiamClusters,
        ProtCryosiamEmbeddings,
        ProtCryosiamParticles,
    )
    from cryosiam_plugin.tests.synthetic import small_models

    folder = {"filesPath": str(simulation() / "tomograms"), "filesPattern": "TS_*.mrc"}
    imported = project.new(ProtImportTomograms, samplingRate=VOXEL_SIZE, **folder)
    source = {"inputTomograms": (imported, "Tomograms")}
    chain = [imported]

    def add(protocol_class, **parameters):
        project.scipion.saveProtocol(chain[-1])
        chain.append(project.new(protocol_class, **parameters))
        return chain[-1]

    particles = add(
        ProtCryosiamParticles,
        threshold=0.3,
        minimumVoxels=5,
        boxSize=BOX,
        numberOfThreads=3,
        **source,
        **model(small_models(), "semantic"),
    )
    embedded = add(
        ProtCryosiamEmbeddings,
        source=1,
        inputParticles=(particles, "coordinates"),
        makeMap=False,
        **source,
        **network(),
    )
    clusters = add(
        ProtCryosiamClusters,
        inputEmbeddings=(embedded, "embeddings"),
        numberOfClusters=2,
        makeMap=False,
    )
    project.scipion.saveProtocol(clusters)
    for protocol in chain:
        project.scipion.scheduleProtocol(protocol)
    for protocol in chain:
        project.finished(protocol)
    found, described = items_of(particles.coordinates), items_of(clusters.particles)
    assert [p.getObjId() for p in described] == [p.getObjId() for p in found]
    # What they were is still there, beside what they are now.
    assert [p._className.get() for p in described] == [p._className.get() for p in found]
    assert {p.getGroupId() for p in described} == {1, 2}


class TestProblems:
    def test_tomograms_without_particles_are_no_failures(self, project, tomograms, coordinates):
        """Particles of one tomogram only; the other has none, and nobody complains."""
        from pwem.protocols import ProtSetFilter

        from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

        some = project.run(
            ProtSetFilter,
            inputSet=(coordinates, "outputCoordinates"),
            formula="item._tomoId.get() == 'TS_02'",
        )
        output = outputs_of(some)[0]
        run = finished(
            project.run(
                ProtCryosiamEmbeddings,
                source=1,
                inputTomograms=(tomograms, "Tomograms"),
                inputParticles=(some, output),
                particleEdge=BOX,
                makeMap=False,
                **network(),
            )
        )
        assert {p.getTomoId() for p in items_of(run.particles)} == {"TS_02"}
        assert "failedTomograms" not in outputs_of(run)

    def test_particles_of_no_tomogram_at_all_fail_loudly(self, project, coordinates, tmp_path):
        from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

        for ts_id in ("TS_08", "TS_09"):
            (tmp_path / f"{ts_id}.mrc").symlink_to(simulation() / "tomograms" / "TS_01.mrc")
        others = project.import_tomograms(tmp_path)
        run = project.run(
            ProtCryosiamEmbeddings,
            source=1,
            inputTomograms=(others, "Tomograms"),
            inputParticles=(coordinates, "outputCoordinates"),
            **network(),
        )
        assert run.isFailed()
        message = run.getErrorMessage()
        assert "TS_01, TS_02" in message
        assert "TS_08, TS_09" in message

    def test_masks_of_another_size_fail_with_a_reason(self, project, of_instances, coordinates):
        from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

        fine = coordinates.importTomograms
        run = project.new(
            ProtCryosiamEmbeddings,
            source=0,
            inputInstances=(of_instances.inputInstances.getObjValue(), "tomomasks"),
            masking=2,
            **network(),
        )
        run.inputTomograms.copy(fine)
        project.launch(run)
        project.again(run)
        assert run.isFailed()
        assert "Give the tomograms that the masks were made from" in run.getErrorMessage()
        assert [item.getTsId() for item in items_of(run.failedTomograms)] == IDS

    def test_forms_that_cannot_be_run(self, project, tomograms, of_instances, coordinates):
        from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

        def problems(**parameters):
            run = project.new(
                ProtCryosiamEmbeddings,
                inputTomograms=(tomograms, "Tomograms"),
                **{**network(), **parameters},
            )
            return " ".join(run.validate())

        masks = (of_instances.inputInstances.getObjValue(), "tomomasks")
        assert "*Instance masks* cannot be empty" in problems()
        assert "*Particles* cannot be empty" in problems(source=1)
        assert "nobody knows" in problems(inputInstances=masks)
        assert problems(inputInstances=masks, masking=1) == ""
        sizes = {"minimumVoxels": 9, "maximumVoxels": 5}
        assert "'from' must not" in problems(inputInstances=masks, masking=1, **sizes)

    def test_a_published_model_knows_its_masking(self, project, tomograms, of_instances, tmp_path):
        from cryosiam_plugin import Plugin
        from cryosiam_plugin.protocols import ProtCryosiamEmbeddings

        models = [m for m in Plugin.publishedModels() if m.task == "embedding"]
        assert {m.name: m.masking_type for m in models} == {
            "embeddings-convex-hull": 1,
            "embeddings-no-masking": 0,
            "embeddings-strict": 2,
        }
        strict = [m.name for m in models].index("embeddings-strict")
        run = project.new(
            ProtCryosiamEmbeddings,
            inputTomograms=(tomograms, "Tomograms"),
            publishedModel=strict,
        )
        assert run._maskingType() == 2
        assert run.warnings() == []
        run.masking.set(1)
        assert "only the instance itself" in " ".join(run.warnings())
        run.source.set(1)
        assert "embeddings-no-masking" in " ".join(run.warnings())

    def test_too_many_clusters_are_refused_before_the_run(self, project, of_instances):
        from cryosiam_plugin.protocols import ProtCryosiamClusters

        run = project.new(
            ProtCryosiamClusters,
            inputEmbeddings=(of_instances, "embeddings"),
            numberOfClusters=10**4,
        )
        assert "fewer than asked for" in run.validate()[0]


def _table(protocol, name="kmeans_clusters.csv"):
    with Path(protocol._getExtraPath("predictions", name)).open() as stream:
        return list(csv.DictReader(stream))


def _ask(server, method, path, data=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    headers = {"Content-Type": "application/json"} if data else {}
    connection.request(method, path, json.dumps(data) if data else None, headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body
