"""Classes, numbers, orientations and files of masks from coordinates."""

from __future__ import annotations

import csv

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tomo.constants import TR_RELION
from tomo.objects import Coordinate3D, SubTomogram, Tomogram

from cryosiam_plugin.convert.mask_files import link_map, write_balls, write_frame, write_star
from cryosiam_plugin.convert.mask_particles import FoundClass, MaskParticle, Target
from cryosiam_plugin.convert.orientations import orientation_of, relion_angles
from cryosiam_plugin.protocols.mask_classes import classes_of_particles, classes_of_sets
from cryosiam_plugin.protocols.mask_values import values_of_classes, write_values

ANGLE = st.floats(-180, 180)


def relion_matrix(rot, tilt, psi):
    """RELION's matrix of three angles (degrees), from the average to the particle."""
    (ca, cb, cg), (sa, sb, sg) = (f(np.radians([rot, tilt, psi])) for f in (np.cos, np.sin))
    return np.array(
        [
            [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
            [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


# ----------------------------- orientations -----------------------------------------------------


@given(rot=ANGLE, tilt=st.floats(0, 180) | st.sampled_from([0.0, 180.0, 1e-9]), psi=ANGLE)
def test_angles_make_the_rotation_that_they_were_taken_from(rot, tilt, psi):
    rotation = relion_matrix(rot, tilt, psi).T
    again = relion_matrix(*relion_angles(rotation)).T
    assert again == pytest.approx(rotation, abs=1e-12)


def test_angles_are_relions():
    assert relion_angles(relion_matrix(35, 70, -120).T) == pytest.approx((35, 70, -120))


@pytest.mark.parametrize("matrix", [np.diag([1, 1, -1]), np.diag([1, 2, 1])])
def test_what_is_no_rotation_has_no_angles(matrix):
    with pytest.raises(ValueError, match="mirrors or deforms"):
        relion_angles(matrix)


def test_a_coordinate_of_relion_is_turned_as_in_relion():
    matrix = np.eye(4)
    matrix[:3, :3] = relion_matrix(20, 60, 100).T
    coordinate = Coordinate3D()
    coordinate.setMatrix(matrix, convention=TR_RELION)
    rotation, shift = orientation_of(coordinate)
    assert relion_angles(rotation) == pytest.approx((20, 60, 100))
    assert not shift.any()


def test_the_centre_is_where_scipions_matrix_takes_to_the_averages_origin():
    """particle(r) = average(M r), so M takes the particle's centre to 0."""
    from pwem.objects import Transform

    matrix = np.eye(4)
    matrix[:3, :3] = relion_matrix(20, 60, 100).T
    matrix[:3, 3] = 1.5, -2, 3
    particle = SubTomogram()
    particle.setCoordinate3D(Coordinate3D())
    particle.setTransform(Transform(matrix=matrix))
    rotation, shift = orientation_of(particle)
    assert (matrix @ [*shift, 1])[:3] == pytest.approx(0, abs=1e-12)
    assert rotation == pytest.approx(matrix[:3, :3])


# ----------------------------- classes ----------------------------------------------------------

RIBOSOME = FoundClass(0, "Ribosome", 2, 30)
PROTEASOME = FoundClass(0, "proteasome", 3, 4)
UNNAMED = FoundClass(0, "", 0, 7)


def test_sets_are_classes_in_their_order():
    classes = classes_of_sets("", [[UNNAMED], [RIBOSOME], [RIBOSOME, PROTEASOME]])
    assert classes.names == {1: "class 1", 2: "Ribosome", 3: "class 3"}
    assert classes.numbers == {1: 7, 2: 30, 3: 34}
    assert [classes.label_of(n)("anything", 9) for n in range(3)] == [1, 2, 3]


def test_sets_get_the_names_and_numbers_that_are_asked_for():
    classes = classes_of_sets("2: ribosome, 4: rubisco", [[UNNAMED], [RIBOSOME]])
    assert classes.names == {2: "ribosome", 4: "rubisco"}
    assert classes.label_of(1)("", 0) == 4


@pytest.mark.parametrize("text", ["a", "a, b, c", "1: a, 1: b", "2: a, b", "0: a, b", "256: a, b"])
def test_names_that_fit_no_sets_are_refused(text):
    with pytest.raises(ValueError, match=r"\d"):
        classes_of_sets(text, [[UNNAMED], [RIBOSOME]])


def test_particles_keep_their_own_numbers():
    classes = classes_of_particles("", [[RIBOSOME], [PROTEASOME, UNNAMED]])
    assert classes.names == {2: "Ribosome", 3: "proteasome"}
    label_of = classes.label_of(0)
    assert label_of("ribosome", 0) == 2
    # A name tells more than a group that another program may have changed.
    assert label_of("Proteasome", 99) == 3
    assert label_of("", 2) is None
    assert label_of("", 0) is None


def test_chosen_classes_are_numbered_by_their_place():
    classes = classes_of_particles("PROTEASOME", [[RIBOSOME, PROTEASOME]])
    assert classes.names == {1: "proteasome"}
    assert classes.numbers == {1: 4}
    assert classes.label_of(0)("ribosome", 2) is None
    assert classes_of_particles("7: ribosome, 3", [[RIBOSOME, PROTEASOME]]).names == {
        7: "Ribosome",
        2: "proteasome",  # the number of a group is a name too
    }


def test_groups_are_classes_of_particles_without_names():
    groups = [FoundClass(0, "", 5, 1), FoundClass(0, "", 7, 2)]
    classes = classes_of_particles("", [groups])
    assert classes.names == {5: "class 5", 7: "class 7"}
    assert classes.label_of(0)("", 7) == 7
    assert classes_of_particles("7, 5", [groups]).label_of(0)("", 7) == 1


def test_one_class_in_different_groups_is_one():
    twice = [RIBOSOME, RIBOSOME._replace(group=3), PROTEASOME]
    classes = classes_of_particles("", [twice])
    assert classes.names == {1: "proteasome", 2: "Ribosome"}
    assert classes.numbers == {1: 4, 2: 60}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [UNNAMED]),
        ("rubisco", [RIBOSOME]),
        ("ribosome, Ribosome", [RIBOSOME]),
        ("", [FoundClass(0, "", n, 1) for n in range(1, 300)]),
    ],
)
def test_particles_without_the_classes_are_refused(text, found):
    with pytest.raises(ValueError, match=r"class"):
        classes_of_particles(text, [found])


# ----------------------------- numbers of classes -------------------------------------------------

NAMES = {1: "ribosome", 3: "26S proteasome", 4: "1", 5: "a: b", 7: "70S, idle"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("140", {1: 140, 3: 140}),
        ("140, 70.5", {1: 140, 3: 70.5}),
        ("26s Proteasome: 70, 1: 140", {1: 140, 3: 70}),
    ],
)
def test_numbers_of_classes(text, expected):
    assert values_of_classes(text, {1: "ribosome", 3: "26S proteasome"}, "") == expected


@pytest.mark.parametrize("text", ["", None, "1, 2, 3", "ribosome: 3", "x", "nan", "a: 1, b: 2"])
def test_numbers_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match=r"."):
        values_of_classes(text, {1: "ribosome", 3: "26S proteasome"}, "")


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.integers(1, 500), min_size=1))
def test_written_numbers_are_read_back(values):
    names = {label: NAMES[label] for label in values}
    assert values_of_classes(write_values(values, names), names, "") == values


# ----------------------------- files ------------------------------------------------------------

SHAPE = (5, 6, 7)


def tomogram(path, voxel_size=10.0):
    with mrcfile.new(path, np.ones(SHAPE, np.float32)) as mrc:
        mrc.voxel_size = 3
        mrc.header.origin = (-30, 20, 10)
    item = Tomogram()
    item.setFileName(str(path))
    item.setTsId("TS_01")
    item.setSamplingRate(voxel_size)
    return item


def test_a_frame_has_the_tomograms_geometry_and_nothing_else(tmp_path):
    target = Target.of(tomogram(tmp_path / "tomogram.mrc"))
    assert target.shape == SHAPE
    write_frame(target, tmp_path / "new" / "frame.mrc")
    with mrcfile.open(tmp_path / "new" / "frame.mrc") as mrc:
        assert mrc.data.shape == SHAPE
        assert not mrc.data.any()
        assert mrc.voxel_size.tolist() == (10, 10, 10)  # what Scipion says
        assert mrc.header.origin.tolist() == (-30, 20, 10)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["frame.mrc"]


def test_a_tomogram_that_cannot_be_read_has_no_size(tmp_path):
    item = tomogram(tmp_path / "tomogram.mrc")
    (tmp_path / "tomogram.mrc").unlink()
    with pytest.raises(ValueError, match=r"tomogram\.mrc"):
        Target.of(item)


def test_balls_are_around_the_nearest_voxel(tmp_path):
    centre = (1.999999, 3.4, -0.7)
    write_balls(tmp_path / "balls.csv", [MaskParticle("TS_01", 2, centre, np.eye(3))])
    with (tmp_path / "balls.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert [row[f"centroid-{n}"] for n in range(3)] == ["2", "3", "-1"]
    assert (row["tomo"], row["semantic_class"]) == ("TS_01", "2")


def test_star_files_are_what_other_programs_read(tmp_path):
    from emtable import Table

    rotation = relion_matrix(10, 20, 30).T
    write_star(tmp_path / "p.star", [MaskParticle("TS_01", 1, (3.25, 2, 1), rotation)])
    (row,) = Table(fileName=str(tmp_path / "p.star"), tableName="particles")
    assert (row.rlnTomoName, row.rlnCoordinateX, row.rlnCoordinateZ) == ("TS_01", 1, 3.25)
    assert (row.rlnAngleRot, row.rlnAngleTilt, row.rlnAnglePsi) == pytest.approx((10, 20, 30))


@pytest.mark.parametrize(("voxel_size", "linked"), [(3.0, True), (10.0, False)])
def test_a_map_whose_header_is_right_is_not_copied(tmp_path, voxel_size, linked):
    volume = tomogram(tmp_path / "average.mrc", voxel_size)
    path = link_map(volume, tmp_path / "maps", "class_1")
    assert path.is_symlink() == linked
    assert link_map(volume, tmp_path / "maps", "class_1") == path  # and again
    for file, size in ((path, voxel_size), (tmp_path / "average.mrc", 3)):
        with mrcfile.open(file) as mrc:
            assert mrc.voxel_size.x == pytest.approx(size)
            assert mrc.data.all()
