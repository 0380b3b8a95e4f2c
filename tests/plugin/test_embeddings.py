"""Embeddings, clusters and selections without a project: positions, tables, sets."""

from __future__ import annotations

import csv

import h5py
import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyworkflow.object import Integer
from tomo.constants import BOTTOM_LEFT_CORNER
from tomo.objects import (
    Coordinate3D,
    SetOfCoordinates3D,
    SetOfSubTomograms,
    SubTomogram,
    Tomogram,
    TomoMask,
)

from cryosiam_plugin.convert import index_of, instance_mask_from, ts_ids_of
from cryosiam_plugin.convert.embedding_files import (
    NO_DISTANCE,
    Row,
    by_embedding,
    embeddings_shape,
    gather_centers,
    link_embeddings,
    read_labels,
    read_rows,
    stems_in,
    write_centers,
)
from cryosiam_plugin.convert.embeddings import (
    centres_of,
    embedding_of,
    index_in,
    particles_in,
    set_cluster,
    set_embedding,
)
from cryosiam_plugin.protocols.embedding_clusters import (
    ParticlesDiffer,
    cluster_lines,
    write_particles,
)
from cryosiam_plugin.protocols.embedding_particles import (
    embedded_instances,
    embedded_particles,
    link_instances,
)
from cryosiam_plugin.protocols.embedding_selection import read_selection, write_selection

RATE = 10.0


def tomogram_of(folder, shape=(20, 30, 40), rate=RATE, name="TS_01"):
    """A tomogram of a shape (z, y, x) that Scipion knows as it knows imported ones."""
    path = folder / f"{name}_{'x'.join(map(str, shape))}.mrc"
    with mrcfile.new(path, np.zeros(shape, np.int8), overwrite=True) as mrc:
        mrc.voxel_size = rate
    tomogram = Tomogram()
    tomogram.setLocation(str(path))
    tomogram.setSamplingRate(rate)
    tomogram.setTsId(name)
    tomogram.setObjId(1)
    return tomogram


def coordinate_at(tomogram, index, number=1):
    coordinate = Coordinate3D()
    coordinate.setVolume(tomogram)
    z, y, x = index
    coordinate.setPosition(x, y, z, BOTTOM_LEFT_CORNER)
    coordinate.setObjId(number)
    return coordinate


class TestPositions:
    @given(
        index=st.tuples(*[st.floats(-5, 100, width=32)] * 3),
        shape=st.tuples(*[st.integers(2, 9)] * 3),
    )
    @settings(max_examples=30, deadline=None)
    def test_in_the_same_tomogram_nothing_changes(self, tmp_path_factory, index, shape):
        tomogram = tomogram_of(tmp_path_factory.mktemp("t"), shape)
        coordinate = coordinate_at(tomogram, index)
        assert index_in(coordinate, RATE, tomogram) == pytest.approx(index, abs=1e-4)
        assert index_in(coordinate, RATE, tomogram) == pytest.approx(index_of(coordinate))

    @pytest.mark.parametrize("factor", [2, 4])
    def test_binned_tomograms(self, tmp_path, factor):
        coarse = tomogram_of(tmp_path, (10, 14, 18), factor * RATE)
        fine = tomogram_of(tmp_path, tuple(factor * n for n in (10, 14, 18)), RATE)
        coordinate = coordinate_at(fine, (8, 20, 28))
        expected = [n / factor for n in (8, 20, 28)]
        assert index_in(coordinate, RATE, coarse) == pytest.approx(expected)

    def test_a_tomogram_cut_around_its_centre(self, tmp_path):
        """Twelve voxels less in z: six on each side."""
        whole, cut = tomogram_of(tmp_path, (40, 30, 20)), tomogram_of(tmp_path, (28, 30, 20))
        assert index_in(coordinate_at(whole, (20, 1, 2)), RATE, cut) == pytest.approx((14, 1, 2))

    def test_a_tomogram_with_an_origin_of_its_own(self, tmp_path):
        from pwem.objects import Transform

        tomogram = tomogram_of(tmp_path)
        coordinate = coordinate_at(tomogram, (5, 6, 7))
        moved = tomogram_of(tmp_path)
        origin = Transform()
        x, y, z = tomogram.getShiftsFromOrigin()
        origin.setShifts(x + 2 * RATE, y, z - RATE)
        moved.setOrigin(origin)
        assert index_in(coordinate, RATE, moved) == pytest.approx((6, 6, 5))

    def test_centres_are_labelled_by_id(self, tmp_path):
        tomogram = tomogram_of(tmp_path)
        particles = [coordinate_at(tomogram, (1, 2, 3), 17), coordinate_at(tomogram, (4, 5, 6), 4)]
        subtomogram = SubTomogram()
        subtomogram.setCoordinate3D(coordinate_at(tomogram, (7, 8, 9), 99))
        subtomogram.setObjId(5)
        found = list(centres_of([*particles, subtomogram], RATE, tomogram))
        assert [label for label, _ in found] == [17, 4, 5]
        assert np.array([index for _, index in found]) == pytest.approx(
            np.arange(1.0, 10).reshape(3, 3)
        )


class TestFiles:
    def test_centres_of_all_tomograms_in_one_table(self, tmp_path):
        folder = tmp_path / "centers"
        write_centers(folder / "TS_02.csv", "TS_02", [(1, (1.5, 2, 3))])
        write_centers(folder / "TS_01.csv", "TS_01", [(7, (0, 0, 0.12345)), (8, (1, 1, 1))])
        write_centers(folder / "TS_03.csv", "TS_03", [])
        gather_centers(folder, tmp_path / "centers.csv")
        rows = list(csv.DictReader((tmp_path / "centers.csv").open()))
        assert [(r["tomo"], r["label"]) for r in rows] == [
            ("TS_01", "7"),
            ("TS_01", "8"),
            ("TS_02", "1"),
        ]
        assert [float(rows[2][f"centroid-{i}"]) for i in range(3)] == [1.5, 2, 3]
        assert sorted(p.name for p in folder.iterdir()) == ["TS_01.csv", "TS_02.csv", "TS_03.csv"]

    def test_a_table_that_failed_leaves_the_one_before(self, tmp_path):
        path = tmp_path / "TS_01.csv"
        write_centers(path, "TS_01", [(1, (1, 2, 3))])
        before = path.read_text()

        def broken():
            yield 2, (1, 2, 3)
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            write_centers(path, "TS_01", broken())
        assert path.read_text() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_embeddings_are_lent(self, tmp_path):
        source, target = tmp_path / "a", tmp_path / "b"
        source.mkdir()
        target.mkdir()
        for stem, number in (("TS_10", 2), ("TS_1", 0)):
            with h5py.File(source / f"{stem}_embeds.h5", "w") as file:
                file["embeddings"] = np.zeros((8, number))
            with h5py.File(source / f"{stem}_instance_labels.h5", "w") as file:
                file["labels"] = np.arange(number) + 3
        (target / "TS_1_embeds.h5").symlink_to(tmp_path / "gone")
        assert link_embeddings(source, target) == ["TS_1", "TS_10"]
        assert stems_in(target) == ["TS_1", "TS_10"]
        assert embeddings_shape(target / "TS_10_embeds.h5") == (8, 2)
        assert embeddings_shape(target / "TS_1_embeds.h5") == (8, 0)
        assert read_labels(target / "TS_10_instance_labels.h5") == [3, 4]
        assert read_labels(target / "TS_1_instance_labels.h5") == []
        assert all(path.is_symlink() for path in target.iterdir())

    def test_rows_belong_to_embeddings_by_their_order_in_each_tomogram(self, tmp_path):
        path = tmp_path / "kmeans_clusters.csv"
        path.write_text(
            "row,tomo,label,cluster,distance_to_center,rank\n"
            "3,TS_1,9,2,0.5,1\n0,TS_10,4,1,0.25,2\n1,TS_10,2,0,,0\n2,TS_1,5,0,nan,0\n"
        )
        found = by_embedding(read_rows(path))
        assert found == {
            ("TS_10", 0): Row(0, "TS_10", 4, 1, 0.25, 2),
            ("TS_10", 1): Row(1, "TS_10", 2, 0, NO_DISTANCE, 0),
            ("TS_1", 0): Row(2, "TS_1", 5, 0, NO_DISTANCE, 0),
            ("TS_1", 1): Row(3, "TS_1", 9, 2, 0.5, 1),
        }

    @pytest.mark.parametrize("text", ["row,label\n1,2\n", "row,tomo,label\nx,TS_1,2\n"])
    def test_what_is_no_table(self, tmp_path, text):
        path = tmp_path / "x.csv"
        path.write_text(text)
        with pytest.raises(ValueError, match="is not a table of particles"):
            list(read_rows(path))


class TestSelections:
    @pytest.mark.parametrize(
        "text",
        [
            "row\n4\n1\n4\n",
            "﻿row,tomogram\r\n1,a\r\n4,b\r\n",
            'tomogram,row\n"TS, 1",4\nTS_2,1\n',
            "[4, 1]",
            ' {"name": "x", "rows": [1, 4, 1]}',
        ],
    )
    def test_read(self, tmp_path, text):
        path = tmp_path / "selection"
        path.write_text(text, encoding="utf-8")
        assert read_selection(path) == {1, 4}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "nothing was selected"),
            ("row\n", "nothing was selected"),
            ("[]", "nothing was selected"),
            ("label\n3\n", "column 'row'"),
            ("row\nx\n", "column 'row'"),
            ("row\n1.5\n", "column 'row'"),
            ("{", "column 'row'"),
            ('{"name": 3}', "column 'row'"),
            ('{"rows": 3}', "column 'row'"),
            ("row\n-1\n", "below 0"),
        ],
    )
    def test_no_selection(self, tmp_path, text, message):
        path = tmp_path / "selection"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_selection(path)

    def test_written_and_read(self, tmp_path):
        path = tmp_path / "new" / "a.csv"
        write_selection(path, [5, 3, 5])
        assert path.read_text() == "row\n3\n5\n"
        assert read_selection(path) == {3, 5}


def fill(made, items):
    for item in items:
        made.append(item)
    made.write()
    return made


@pytest.fixture
def coordinates(tmp_path):
    """Particles of three tomograms; one has a name that SQL could misunderstand."""
    made = SetOfCoordinates3D.create(str(tmp_path), template="coordinates%s.sqlite")
    made.setSamplingRate(RATE)
    made.setBoxSize(8)
    names = ["TS_01", "VECTOR_AND_1", "TS_01", "TS_010"]
    items = [
        coordinate_at(tomogram_of(tmp_path, name=name), (number, 0, 0), number)
        for number, name in enumerate(names, 1)
    ]
    return fill(made, items)


class TestSets:
    def test_particles_by_tomogram(self, coordinates):
        assert sorted(ts_ids_of(coordinates)) == ["TS_01", "TS_010", "VECTOR_AND_1"]
        assert [p.getObjId() for p in particles_in(coordinates, "TS_01")] == [1, 3]
        assert [p.getObjId() for p in particles_in(coordinates, "VECTOR_AND_1")] == [2]
        assert particles_in(coordinates, "TS_02") == []

    def test_subtomograms_by_tomogram(self, tmp_path, coordinates):
        made = SetOfSubTomograms.create(str(tmp_path), template="subtomograms%s.sqlite")
        made.setSamplingRate(RATE)
        items = []
        for coordinate in coordinates.iterItems():
            item = SubTomogram()
            item.setLocation(coordinate.getObjId(), str(tmp_path / "stack.mrcs"))
            item.setCoordinate3D(coordinate.clone())
            item.setObjId(coordinate.getObjId() + 10)
            items.append(item)
        fill(made, items)
        assert sorted(ts_ids_of(made)) == ["TS_01", "TS_010", "VECTOR_AND_1"]
        found = particles_in(made, "TS_01")
        assert [p.getObjId() for p in found] == [11, 13]
        assert [p.getIndex() for p in found] == [1, 3]
        assert all(p.getCoordinate3D().getTomoId() == "TS_01" for p in found)

    def test_no_particles_at_all(self, tmp_path):
        assert ts_ids_of(SetOfCoordinates3D.create(str(tmp_path), suffix="_none")) == []

    def test_labels_are_ids(self, coordinates):
        particles = particles_in(coordinates, "TS_01")
        found = embedded_particles(particles, [3, 1])
        assert [(p.getObjId(), *embedding_of(p)) for p in found] == [
            (3, "TS_01", 0),
            (1, "TS_01", 1),
        ]
        # The engine leaves out what lies outside of the tomogram.
        assert [p.getObjId() for p in embedded_particles(particles, [3])] == [3]
        with pytest.raises(ValueError, match="1 particles that are not in the input"):
            embedded_particles(particles, [1, 77])

    def test_what_has_no_embedding(self, coordinates):
        with pytest.raises(ValueError, match="have no embeddings"):
            embedding_of(particles_in(coordinates, "TS_01")[0])


@pytest.fixture
def embedded(tmp_path, coordinates):
    """The same particles with rows."""
    numbers = {1: 0, 2: 0, 3: 1, 4: 0}
    made = SetOfCoordinates3D.create(str(tmp_path), template="coordinates%s.sqlite", suffix="_e")
    items = [item.clone() for item in coordinates.iterItems()]
    for item in items:
        set_embedding(item, numbers[item.getObjId()])
    return fill(made, items)


ROWS = {
    ("TS_01", 0): Row(0, "TS_01", 1, 2, 0.5, 1),
    ("TS_01", 1): Row(1, "TS_01", 3, 2, 0.7, 2),
    ("TS_010", 0): Row(2, "TS_010", 4, 0, NO_DISTANCE, 0),
    ("VECTOR_AND_1", 0): Row(3, "VECTOR_AND_1", 2, 1, 0.1, 1),
}


class TestClusters:
    def test_all_particles_and_the_typical_ones(self, tmp_path, embedded):
        path = str(tmp_path)
        particles = SetOfCoordinates3D.create(path, template="coordinates%s.sqlite", suffix="_p")
        typical = SetOfCoordinates3D.create(path, template="coordinates%s.sqlite", suffix="_t")
        sizes = write_particles(embedded, ROWS, particles, typical, 1)
        assert sizes == {2: 2, 1: 1, 0: 1}
        found = {
            p.getObjId(): (
                p._cluster.get(),
                p.getGroupId(),
                p._clusterDistance.get(),
                p._clusterRank.get(),
            )
            for p in particles.iterItems()
        }
        assert found == {
            1: (2, 2, 0.5, 1),
            2: (1, 1, 0.1, 1),
            3: (2, 2, 0.7, 2),
            4: (0, 0, -1.0, 0),
        }
        assert [p.getObjId() for p in typical.iterItems()] == [1, 2]

    def test_clusters_of_other_particles(self, tmp_path, embedded):
        path = str(tmp_path)
        particles, typical = (
            SetOfCoordinates3D.create(path, template="coordinates%s.sqlite", suffix=suffix)
            for suffix in ("_p", "_t")
        )
        rows = {key: row for key, row in ROWS.items() if key != ("TS_01", 1)}
        with pytest.raises(ParticlesDiffer, match="particle 3 of TS_01"):
            write_particles(embedded, rows, particles, typical, 1)

    def test_a_subtomogram_s_cluster_is_its_class(self):
        item = SubTomogram()
        set_cluster(item, ROWS["TS_01", 0])
        assert item.getClassId() == item._cluster.get() == 2

    def test_lines_of_the_summary(self):
        assert cluster_lines({2: 3, 0: 1, 1: 4}) == [
            "Cluster 1: 4 particles (50.0 %).",
            "Cluster 2: 3 particles (37.5 %).",
            "In no cluster: 1 particle (12.5 %).",
        ]
        assert cluster_lines({}) == []


REGIONS = "label,area,bbox-0,bbox-1,bbox-2,bbox-3,bbox-4,bbox-5,centroid-0,centroid-1,centroid-2"


class TestInstances:
    @pytest.fixture
    def run(self, tmp_path):
        """What the engine leaves behind: tables of all instances, and of the embedded ones."""
        folder = tmp_path / "embeddings"
        folder.mkdir()
        table = folder / "TS_01_instance_regions.csv"
        table.write_text(
            f"{REGIONS},hull_area\n3,50,0,0,0,4,4,4,1.5,2,2.5,60\n7,20,5,5,5,8,8,8,6,6.5,7,30\n"
        )
        masks = tmp_path / "masks"
        masks.mkdir()
        with mrcfile.new(masks / "TS_01_instance_preds.mrc", np.zeros((20, 30, 40), np.int8)):
            pass
        return folder, masks

    def mask_of(self, masks, tomogram, names):
        return instance_mask_from(tomogram, str(masks / "TS_01_instance_preds.mrc"), names)

    def test_instances_of_any_labels(self, tmp_path, run):
        folder, masks = run
        tomogram = tomogram_of(tmp_path)
        mask = TomoMask()
        mask.setLocation(str(masks / "TS_01_instance_preds.mrc"))
        mask.setTsId("TS_01")
        found = embedded_instances(folder, [3, 7], mask, tomogram)
        assert [(p._instanceId.get(), p._nVoxels.get()) for p in found] == [(3, 50), (7, 20)]
        assert [p._embeddingRow.get() for p in found] == [0, 1]
        assert index_of(found[0]) == pytest.approx((1.5, 2, 2.5))
        assert {p._className.get() for p in found} == {"instance"}

    def test_scores_and_classes_come_from_the_segmentation(self, tmp_path, run):
        folder, masks = run
        (masks / "TS_01_particles.csv").write_text(
            f"{REGIONS},score,semantic_class\n"
            "3,50,0,0,0,4,4,4,1.5,2,2.5,0.75,2\n5,9,0,0,0,4,4,4,1,2,2,0.5,1\n"
            "7,20,5,5,5,8,8,8,6,6.5,7,0.25,1\n"
        )
        tomogram = tomogram_of(tmp_path)
        mask = self.mask_of(masks, tomogram, {1: "ribosome", 2: "proteasome"})
        found = embedded_instances(folder, [3, 7], mask, tomogram)
        assert [p.getScore() for p in found] == [0.75, 0.25]
        assert [p._className.get() for p in found] == ["proteasome", "ribosome"]
        assert [p.getGroupId() for p in found] == [2, 1]

    def test_the_engine_s_table_goes_with_the_mask(self, tmp_path, run):
        _, masks = run
        tomogram = tomogram_of(tmp_path)
        mask = self.mask_of(masks, tomogram, {})
        link_instances(mask, str(tmp_path / "lent"))
        lent = tmp_path / "lent"
        assert [p.name for p in lent.iterdir()] == ["TS_01_instance_preds.mrc"]
        (masks / "TS_01_instance_regions.csv").write_text(f"{REGIONS}\n")
        for _ in range(2):
            link_instances(mask, str(lent))
        assert sorted(p.name for p in lent.iterdir()) == [
            "TS_01_instance_preds.mrc",
            "TS_01_instance_regions.csv",
        ]


def test_the_row_is_a_whole_number():
    coordinate = Coordinate3D()
    set_embedding(coordinate, 4)
    assert isinstance(coordinate._embeddingRow, Integer)
