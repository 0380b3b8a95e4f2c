"""Masks from coordinates in a real project, against balls and shapes that can be calculated."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipion_projects import VOXEL_SIZE, Project, outputs_of, said, volumes
from test_masks import relion_matrix

pytestmark = pytest.mark.slow

#: (z, y, x): all different, so that no two axes can be mistaken for each other.
SHAPE = (20, 26, 34)
#: TS_03 has no particles.
IDS = ["TS_01", "TS_02", "TS_03"]
#: Centres (z, y, x) of two classes; the last ribosome reaches beyond the border, and in TS_01 a
#: proteasome and a ribosome overlap.
RIBOSOMES = {"TS_01": [(9, 12, 20), (5, 20, 6)], "TS_02": [(12, 5, 30), (1, 24, 3)]}
PROTEASOMES = {"TS_01": [(9, 12, 25), (15, 6, 8)], "TS_02": [(10, 14, 16), (4, 21, 10)]}
RADII = {"ribosome": 4.0, "proteasome": 2.5}  # voxels

ROTATIONS = {"TS_01": [(35, 70, -120), (0, 0, 0)], "TS_02": [(-80, 130, 15), (10, 45, 100)]}
MAP_EDGE = 32


@pytest.fixture(scope="module")
def project(domain, engine_python):
    return Project("masks", engine_python)


def import_tomograms(project, name, voxel_size):
    """Empty tomograms of a voxel size; their headers have another one."""
    from tomo.protocols import ProtImportTomograms

    folder = project.path / name
    folder.mkdir(parents=True, exist_ok=True)
    shape = [round(length * VOXEL_SIZE / voxel_size) for length in SHAPE]
    for ts_id in IDS:
        with mrcfile.new(folder / f"{ts_id}.mrc", np.zeros(shape, np.float32)) as mrc:
            mrc.voxel_size = 1.0
    return project.run(
        ProtImportTomograms,
        filesPath=str(folder),
        filesPattern="TS_*.mrc",
        samplingRate=voxel_size,
    )


@pytest.fixture(scope="module")
def tomograms(project):
    return import_tomograms(project, "tomograms", VOXEL_SIZE)


@pytest.fixture(scope="module")
def fine(project):
    """The tomograms as if they had been binned half as much."""
    return import_tomograms(project, "fine", VOXEL_SIZE / 2)


def made(project, **outputs):
    """A finished run with some outputs, each made by a function of the run's folder."""
    from pwem.protocols import ProtSubSet

    protocol = project.new(ProtSubSet)
    project.scipion.saveProtocol(protocol)
    protocol.makePathsAndClean()
    for name, make in outputs.items():
        protocol._defineOutputs(**{name: make(protocol._getPath())})
    protocol.setStatus("finished")
    project.scipion._storeProtocol(protocol)
    return protocol


def coordinates_of(tomograms, particles, suffix, voxel_size=VOXEL_SIZE):
    """Make a set: tsId, index (z, y, x), name of the class or None, group, angles or None."""
    from pyworkflow.object import Pointer, String
    from tomo.constants import BOTTOM_LEFT_CORNER, TR_RELION
    from tomo.objects import Coordinate3D, SetOfCoordinates3D

    def make(folder):
        items = {t.getTsId(): t.clone() for t in tomograms.Tomograms.iterItems()}
        coordinates = SetOfCoordinates3D.create(folder, template="c%s.sqlite", suffix=suffix)
        coordinates.setPrecedents(Pointer(tomograms, extended="Tomograms"))
        coordinates.setSamplingRate(voxel_size)
        coordinates.setBoxSize(12)
        for ts_id, (z, y, x), name, group, angles in particles:
            coordinate = Coordinate3D()
            coordinate.setVolume(items[ts_id])
            coordinate.setPosition(x, y, z, BOTTOM_LEFT_CORNER)
            coordinate.setGroupId(group)
            if name:
                coordinate._className = String(name)
            if angles:
                matrix = np.eye(4)
                matrix[:3, :3] = relion_matrix(*angles).T
                coordinate.setMatrix(matrix, convention=TR_RELION)
            coordinates.append(coordinate)
        coordinates.write()
        return coordinates

    return make


def masks(project, particles, maps=(), **parameters):
    """Run the protocol on some outputs, each (protocol, name)."""
    from pyworkflow.object import Pointer

    from cryosiam_plugin.protocols import ProtCryosiamMasksFromCoordinates

    protocol = project.new(ProtCryosiamMasksFromCoordinates, **parameters)
    for parameter, pointers in (("inputCoordinates", particles), ("inputMaps", maps)):
        for parent, name in pointers:
            getattr(protocol, parameter).append(Pointer(parent, extended=name))
    project.launch(protocol)
    return project.again(protocol)


def finished(protocol):
    assert protocol.isFinished(), said(protocol)
    return protocol


def squares(centre):
    """Squared distance (voxels) of every voxel from a centre."""
    z, y, x = np.indices(SHAPE)
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2


def balls(centres):
    """The mask that is expected: label and radius by centre; the nearest centre has a voxel."""
    labels, nearest = np.zeros(SHAPE, int), np.full(SHAPE, np.inf)
    for centre, label, radius in centres:
        distance = squares(centre)
        mine = (distance <= radius**2) & (distance < nearest)
        labels[mine], nearest[mine] = label, distance[mine]
    return labels


def expected_balls(ts_id, labels):
    return balls(
        [(centre, labels["ribosome"], RADII["ribosome"]) for centre in RIBOSOMES[ts_id]]
        + [(centre, labels["proteasome"], RADII["proteasome"]) for centre in PROTEASOMES[ts_id]]
    )


def listed(**radii):
    return ", ".join(f"{name}: {radius * VOXEL_SIZE:.10g}" for name, radius in radii.items())


def test_spheres_of_the_classes_that_particles_have(project, tomograms):
    from cryosiam_plugin.convert import label_table_of

    # As particle identification numbers them: masks keep these numbers.
    labels = {"ribosome": 2, "proteasome": 3}
    particles = [
        (ts_id, centre, name, labels[name], None)
        for name, places in (("ribosome", RIBOSOMES), ("proteasome", PROTEASOMES))
        for ts_id in places
        for centre in places[ts_id]
    ]
    # Far outside: told, and no reason to fail.
    particles.append(("TS_02", (10, 14, 300), "ribosome", 2, None))
    source = made(project, coordinates=coordinates_of(tomograms, particles, "classes"))
    protocol = finished(
        masks(
            project,
            [(source, "coordinates")],
            classesFrom=1,
            radii=listed(**RADII),
            emptyMasks=True,
        )
    )

    found = volumes(protocol.masks)
    assert sorted(found) == IDS
    for ts_id in ("TS_01", "TS_02"):
        np.testing.assert_array_equal(found[ts_id], expected_balls(ts_id, labels))
    assert not found["TS_03"].any()
    sources = {t.getTsId(): t.clone() for t in tomograms.Tomograms.iterItems()}
    for mask in protocol.masks.iterItems():
        source = sources[mask.getTsId()]
        assert label_table_of(mask) == {2: "ribosome", 3: "proteasome"}
        assert mask.getSamplingRate() == VOXEL_SIZE
        assert mask.getShiftsFromOrigin() == source.getShiftsFromOrigin()
        assert mask.getDim() == source.getDim()
        assert Path(mask.getVolName()).samefile(source.getFileName())
        with mrcfile.open(mask.getFileName(), header_only=True) as mrc:
            assert mrc.voxel_size.x == pytest.approx(VOXEL_SIZE)
            assert mrc.data is None
    assert protocol.masks.getSamplingRate() == VOXEL_SIZE
    assert outputs_of(protocol) == ["masks"]

    summary = "\n".join(protocol.summary())
    assert "2 = ribosome: 5 particles" in summary
    assert "1 mask without particles" in summary
    assert "1 of 5 particles are outside" in summary
    methods = " ".join(protocol.methods())
    assert f"{RADII['proteasome'] * VOXEL_SIZE:g} Å (proteasome)" in methods


def test_sets_of_a_picker_without_classes_in_tomograms_of_two_voxel_sizes(project, tomograms, fine):
    """Set by set a class; one was picked in finer tomograms, and read from text files."""
    from tomo.protocols import ProtImportCoordinates3D

    folder = project.path / "picked"
    folder.mkdir()
    for ts_id, centres in PROTEASOMES.items():
        lines = [f"{2 * x} {2 * y} {2 * z}\n" for z, y, x in centres]
        (folder / f"{ts_id}.txt").write_text("".join(lines))
    picked = project.run(
        ProtImportCoordinates3D,
        filesPath=str(folder),
        filesPattern="TS_*.txt",
        boxSize=24,
        importTomograms=(fine, "Tomograms"),
    )
    particles = [(t, centre, None, 0, None) for t, places in RIBOSOMES.items() for centre in places]
    source = made(project, coordinates=coordinates_of(tomograms, particles, "plain"))
    pointers = [(picked, "outputCoordinates"), (source, "coordinates")]
    protocol = finished(
        masks(
            project,
            pointers,
            classNames="proteasome, ribosome",
            radii=listed(**RADII),
            # Those of the first set are the fine ones.
            referenceTomograms=(tomograms, "Tomograms"),
        )
    )
    labels = {"proteasome": 1, "ribosome": 2}
    found = volumes(protocol.masks)
    assert sorted(found) == ["TS_01", "TS_02"]
    for ts_id, mask in found.items():
        np.testing.assert_array_equal(mask, expected_balls(ts_id, labels))

    # Without a reference the masks are those of the fine tomograms, of twice the size.
    own = finished(masks(project, pointers[:1], radii=f"{2 * VOXEL_SIZE:g}"))
    assert own.masks.getSamplingRate() == VOXEL_SIZE / 2
    mask = volumes(own.masks)["TS_02"]
    assert mask.shape == tuple(2 * length for length in SHAPE)
    z, y, x = (2 * i for i in PROTEASOMES["TS_02"][0])
    assert {mask[z, y, x + 4], mask[z, y + 4, x], mask[z - 4, y, x]} == {1}
    assert {mask[z, y, x + 5], mask[z + 5, y, x], 0} == {0}


def depth(points):
    """How deep in an asymmetric shape points (x, y, z, in voxels of the tomogram) are."""
    parts = [((0, 0, 0), 2.5), ((4, 0, 0), 1.8), ((0, 3.5, 1), 1.6), ((-1, 0, -4), 1.4)]
    return np.max([r - np.linalg.norm(points - np.array(c), axis=-1) for c, r in parts], axis=0)


def average_map(folder):
    """The shape at half the voxel size, which its header does not know."""
    from tomo.objects import AverageSubTomogram

    z, y, x = np.indices([MAP_EDGE] * 3) - MAP_EDGE // 2
    path = Path(folder) / "average.mrc"
    with mrcfile.new(path, depth(np.stack([x, y, z], -1) / 2).astype(np.float32)) as mrc:
        mrc.voxel_size = 1.0
    average = AverageSubTomogram()
    average.setFileName(str(path))
    average.setSamplingRate(VOXEL_SIZE / 2)
    return average


def depth_around(centre, angles):
    """Depth of every voxel in the shape, turned by RELION's angles around a centre."""
    z, y, x = np.indices(SHAPE)
    around = np.stack([x - centre[2], y - centre[1], z - centre[0]], -1)
    return depth(around @ relion_matrix(*angles))  # rows: the transposed matrix, point by point


def assert_is_shape(mask, wanted):
    """Equal but for voxels on the surface, where the map is interpolated."""
    sure = np.abs(wanted) > 0.15
    np.testing.assert_array_equal(mask[sure], wanted[sure] > 0)
    assert (mask[sure] > 0).sum() > 50


def test_average_maps_turned_as_the_particles_are(project, tomograms):
    """Two classes; the second has a particle in one tomogram only, and reaches into a first."""
    from cryosiam_plugin.convert import label_table_of

    turned = [
        (ts_id, tuple(i + 0.3 for i in centre), None, 0, angles)
        for ts_id in RIBOSOMES
        for centre, angles in zip(RIBOSOMES[ts_id], ROTATIONS[ts_id])
    ]
    flat = [("TS_01", PROTEASOMES["TS_01"][0], None, 0, None)]
    source = made(
        project,
        turned=coordinates_of(tomograms, turned, "turned"),
        flat=coordinates_of(tomograms, flat, "flat"),
        average=average_map,
    )
    protocol = finished(
        masks(
            project,
            [(source, "turned"), (source, "flat")],
            [(source, "average"), (source, "average")],
            shapes=1,
            classNames="2: ribosome, 3: proteasome",
            thresholds="0",
        )
    )
    found = volumes(protocol.masks)
    for ts_id in ("TS_01", "TS_02"):
        particles = [(centre, a) for t, centre, _, _, a in turned if t == ts_id]
        ribosomes = np.max([depth_around(*particle) for particle in particles], axis=0)
        proteasomes = np.full(SHAPE, -9.0)
        if ts_id == "TS_01":
            proteasomes = depth_around(flat[0][1], (0, 0, 0))
            assert_is_shape(found[ts_id] == 3, proteasomes)
        # Where both are the higher class counts.
        assert_is_shape(
            np.where(proteasomes > -0.15, 0, found[ts_id]) == 2,
            np.where(proteasomes > -0.15, -9, ribosomes),
        )
    assert label_table_of(protocol.masks.getFirstItem()) == {2: "ribosome", 3: "proteasome"}
    summary = "\n".join(protocol.summary())
    assert "particles of the class proteasome are unturned" in summary
    assert "class ribosome are unturned" not in summary


def test_shifts_of_subtomograms_and_a_tomogram_that_fails(project, tomograms, fine):
    """Shifts count the subtomograms' voxels, coordinates those that they were picked in."""
    from pwem.objects import Transform
    from pyworkflow.object import Pointer
    from tomo.objects import SetOfSubTomograms, SubTomogram

    angles, shift = (30, 60, 10), np.array([1.0, -2.0, 1.5])
    places = {"TS_01": (18, 24, 40), "TS_02": (20, 28, 30)}  # of the fine tomograms
    picks = [(ts_id, index, None, 0, None) for ts_id, index in places.items()]

    def subtomograms(folder):
        made_of = SetOfSubTomograms.create(folder, template="s%s.sqlite")
        made_of.setSamplingRate(VOXEL_SIZE)  # binned by two when they were extracted
        made_of.setCoordinates3D(Pointer(picked, extended="coordinates"))
        for coordinate in picked.coordinates.iterCoordinates():
            item = SubTomogram()
            item.setLocation(str(project.path / "tomograms" / "TS_01.mrc"))
            item.setSamplingRate(VOXEL_SIZE)
            item.setCoordinate3D(coordinate.clone())
            item.setVolName(coordinate.getTomoId())
            matrix = np.eye(4)
            matrix[:3, :3] = relion_matrix(*angles).T
            matrix[:3, 3] = -matrix[:3, :3] @ shift  # takes the shifted centre to 0
            item.setTransform(Transform(matrix=matrix))
            item.setObjId(coordinate.getObjId())
            made_of.append(item)
        made_of.write()
        return made_of

    picked = made(project, coordinates=coordinates_of(fine, picks, "fine", VOXEL_SIZE / 2))
    source = made(project, subtomograms=subtomograms, average=average_map)
    broken = project.path / "tomograms" / "TS_02.mrc"
    whole = broken.read_bytes()
    broken.write_bytes(b"nonsense")
    parameters = {
        "shapes": 1,
        "thresholds": "0",
        "referenceTomograms": (tomograms, "Tomograms"),
    }
    try:
        protocol = finished(
            masks(project, [(source, "subtomograms")], [(source, "average")], **parameters)
        )
    finally:
        broken.write_bytes(whole)
    assert protocol.masks.getTSIds() == ["TS_01"]
    assert protocol.failedTomograms.getTSIds() == ["TS_02"]
    assert "*TS_02*" in "\n".join(protocol.summary())

    # The tomogram is repaired: Continue makes its mask and nothing else.
    before = Path(protocol.masks.getFirstItem().getFileName()).stat().st_mtime_ns
    project.launch(protocol)
    protocol = finished(project.again(protocol))
    found = volumes(protocol.masks)
    assert sorted(found) == ["TS_01", "TS_02"]
    assert protocol.failedTomograms.getSize() == 0
    assert Path(protocol.masks.getFirstItem().getFileName()).stat().st_mtime_ns == before
    for ts_id, (z, y, x) in places.items():
        centre = np.array([z, y, x]) / 2 + shift[::-1]
        assert_is_shape(found[ts_id], depth_around(centre, angles))


def test_what_makes_no_sense_is_said_before_the_run(project, tomograms):
    from pyworkflow.object import Pointer

    from cryosiam_plugin.protocols import ProtCryosiamMasksFromCoordinates

    particles = [("TS_01", (5, 6, 7), name, group, None) for group, name in enumerate("abc", 1)]
    source = made(project, coordinates=coordinates_of(tomograms, particles, "three"))

    def protocol(**parameters):
        made_of = project.new(ProtCryosiamMasksFromCoordinates, **parameters)
        made_of.inputCoordinates.append(Pointer(source, extended="coordinates"))
        return made_of

    def problems(**parameters):
        return "\n".join(protocol(**parameters)._validate())

    assert problems(radii="50") == ""
    assert problems(radii="50", classesFrom=1) == ""
    assert "such as 'ribosome: 140" in problems(radii="50, 30")
    assert "more than 0" in problems(radii="0")
    assert "No particle is of the class 'd'. Their classes: a, b, c" in problems(
        radii="50", classesFrom=1, classNames="a, d"
    )
    assert "0 average maps for 1 classes" in problems(shapes=1, thresholds="1")
    (warning,) = protocol(radii="50")._warnings()
    assert "3 classes (a, b, c), which become one" in warning
    (warning,) = protocol(radii="c: 3, a: 50, b: 60", classesFrom=1)._warnings()
    assert "every c becomes a single voxel" in warning
    assert protocol()._summary() == ["No results yet."]


def test_particles_outside_of_everything_fail_with_the_reason(project, tomograms):
    particles = [("TS_01", (5, 6, 700), None, 0, None)]
    source = made(project, coordinates=coordinates_of(tomograms, particles, "far"))
    protocol = masks(project, [(source, "coordinates")], radii="50")
    assert protocol.isFailed()
    assert "All of its 1 particles are outside of the tomogram" in protocol.getErrorMessage()
