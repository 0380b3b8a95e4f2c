"""Reading volumes slice by slice, contrast, masks and particles."""

from __future__ import annotations

import h5py
import mrcfile
import numpy as np
import pytest
from PIL import Image

from cryosiam_plugin.viewers.colours import PALETTE, ColourTable, object_colours
from cryosiam_plugin.viewers.contrast import Contrast, to_grey
from cryosiam_plugin.viewers.marks import Particle, ParticleMarks, by_class, read_particles_csv
from cryosiam_plugin.viewers.masks import ALL_OBJECTS, Mask, labels_of
from cryosiam_plugin.viewers.planes import PLANES
from cryosiam_plugin.viewers.scene import MaskFile, SceneFiles, open_scene
from cryosiam_plugin.viewers.surfaces import SurfacePoints, draw_points
from cryosiam_plugin.viewers.viewport import Viewport
from cryosiam_plugin.viewers.volumes import ViewerError, Volume, open_volume

XY, XZ, YZ = PLANES.values()


def write_mrc(path, data, voxel_size=7.5):
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(data)
        mrc.set_volume()
        mrc.voxel_size = voxel_size
    return path


def counting(shape=(5, 6, 40), dtype=np.float32):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint16, np.int8, np.float16])
def test_slices_of_every_plane_are_those_of_the_array(tmp_path, dtype):
    data = counting(dtype=dtype)
    volume = open_volume(write_mrc(tmp_path / "a.mrc", data))
    assert volume.voxel_size == pytest.approx(7.5)
    for index in (0, 4):
        np.testing.assert_array_equal(volume.slice(XY, index), data[index])
        np.testing.assert_array_equal(volume.slice(XZ, index), data[:, index])
    for index in (0, 15, 16, 39, 17):  # across the ends of what is read together
        np.testing.assert_array_equal(volume.slice(YZ, index), data[:, :, index])
    assert volume.value((3.4, 2.0, 8.6)) == data[3, 2, 9]
    assert volume.value((-0.6, 0, 0)) is None
    assert volume.value((0, 0, 39.5)) is None


def test_a_volume_stays_in_its_file(tmp_path):
    path = write_mrc(tmp_path / "a.mrc", counting())
    assert isinstance(open_volume(path).data, np.memmap)


def test_what_scipion_knows_of_the_voxel_size_wins(tmp_path):
    path = write_mrc(tmp_path / "a.mrc", counting(), voxel_size=1.0)
    assert open_volume(path, 13.5).voxel_size == 13.5


def test_labels_of_an_hdf5_file_of_the_engine(tmp_path):
    data = counting(dtype=np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["probs"] = np.zeros((2, 5, 6, 40), np.float16)
        file["labels"] = data
    np.testing.assert_array_equal(open_volume(tmp_path / "a.h5").slice(YZ, 3), data[:, :, 3])


@pytest.mark.parametrize("content", [b"", b"not a volume", b"\0" * 5000])
def test_a_file_that_is_no_volume_is_named(tmp_path, content):
    path = tmp_path / "broken.mrc"
    path.write_bytes(content)
    with pytest.raises(ViewerError, match=r"broken\.mrc"):
        open_volume(path)


def test_half_a_file_is_no_volume(tmp_path):
    path = write_mrc(tmp_path / "half.mrc", counting())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ViewerError, match=r"half\.mrc"):
        open_volume(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ViewerError, match=r"gone\.mrc does not exist"):
        open_volume(tmp_path / "gone.mrc")


def test_contrast_leaves_out_the_outliers(tmp_path):
    rng = np.random.default_rng(0)
    data = rng.normal(5, 1, (20, 50, 60)).astype(np.float32)
    data[10, 20, 20] = 1e6
    data[10, 21, 21] = np.nan
    low, high = Contrast(Volume(data, 1.0, tmp_path)).limits((1, 99))
    assert 1 < low < 4 < 6 < high < 9


def test_contrast_of_an_empty_volume_divides_by_nothing(tmp_path):
    low, high = Contrast(Volume(np.zeros((3, 4, 5)), 1.0, tmp_path)).limits((1, 99))
    assert high > low
    assert not to_grey(np.zeros((4, 5)), (low, high)).any()


def test_grey_levels_end_at_the_limits():
    levels = to_grey(np.array([[-9.0, 0.0, 1.0, 2.0, 9.0, np.nan]]), (0.0, 2.0))
    assert levels.tolist() == [[0, 0, 127, 255, 255, 0]]
    inverted = to_grey(np.array([[0.0, 2.0]]), (0.0, 2.0), inverted=True)
    assert inverted.tolist() == [[255, 0]]


def test_a_name_has_one_colour_in_masks_and_particles():
    table = ColourTable()
    colours = [table.colour(f"class {n}") for n in range(20)]
    assert len(set(colours)) == len(PALETTE) == len(set(PALETTE))
    assert [table.colour(f"class {n}") for n in range(20)] == colours


def volume_of(labels, tmp_path):
    return Volume(labels, 1.0, tmp_path)


def test_the_lookup_table_shows_exactly_the_classes_that_are_shown(tmp_path):
    colours = ColourTable()
    names = {0: "background", 1: "membrane", 3: "ribosome"}
    mask = Mask("classes", volume_of(np.zeros((2, 2, 2), np.uint8), tmp_path), names, colours)
    table = mask.lookup_table()
    assert np.flatnonzero(table[:, 3]).tolist() == [1, 3]
    assert tuple(table[3, :3]) == colours.colour("ribosome")
    mask.shown.discard(1)
    assert np.flatnonzero(mask.lookup_table()[:, 3]).tolist() == [3]
    assert mask.name(3) == "ribosome"
    assert mask.name(2) == "label 2"


def test_labels_without_names_are_taken_from_the_volume(tmp_path):
    labels = np.zeros((4, 5, 6), np.int16)
    labels[2, 1:3] = 4
    mask = Mask("classes", volume_of(labels, tmp_path), {}, ColourTable())
    assert list(mask.names) == [1, 2, 3, 4]
    binary = Mask("lamella", volume_of(labels // 4, tmp_path), {}, ColourTable())
    assert binary.names == {1: "lamella"}
    empty = Mask("lamella", volume_of(labels * 0, tmp_path), {}, ColourTable())
    assert empty.names == {1: "lamella"}


def test_many_labels_are_objects_with_one_line_in_the_legend(tmp_path):
    labels = np.arange(600, dtype=np.uint16).reshape(6, 10, 10)
    mask = Mask("instances", volume_of(labels, tmp_path), {}, ColourTable())
    assert list(mask.names) == [ALL_OBJECTS]
    table = mask.lookup_table()
    assert table[0, 3] == 0
    assert table[1:600, 3].all()
    assert mask.name(77) == "instance 77"


def test_a_mask_of_objects_is_one_however_few_there_are(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint16)
    labels[2, 1:3] = 4
    mask = Mask("instances", volume_of(labels, tmp_path), {}, ColourTable(), objects=True)
    assert list(mask.names) == [ALL_OBJECTS]
    assert mask.shown == {ALL_OBJECTS}
    assert mask.name(4) == "instance 4"
    assert mask.name(0) == "background"


def test_colours_of_objects_can_be_told_apart():
    """Neighbours have numbers near each other; and thousands differ from all others."""
    colours = object_colours(np.arange(1, 70_000)).astype(int)
    for step in range(1, 8):
        apart = np.abs(colours[step:] - colours[:-step]).sum(axis=1)
        assert apart.min() > 60, step
    assert len(np.unique(colours, axis=0)) > 5_000
    assert colours.max(axis=1).min() > 150  # bright enough on a dark tomogram
    np.testing.assert_array_equal(object_colours(np.array(5)), colours[4])


def test_numbers_beyond_the_table_have_colours_too(tmp_path):
    """As float32, in which MRC stores more than 65,535 instances."""
    numbers = np.array([[0, 1, 65535, 65536, 65537, 131071, 10**7]], np.float32)
    wrapped = labels_of(numbers)
    assert wrapped.tolist()[0][:5] == [0, 1, 65535, 1, 2]
    assert (wrapped[0, 1:] > 0).all()
    mask = Mask("instances", volume_of(numbers[None], tmp_path), {}, ColourTable(), objects=True)
    assert mask.lookup_table()[wrapped[0, 1:], 3].all()
    assert mask.name(round(mask.volume.value((0, 0, 6)))) == "instance 10000000"


def test_surface_points_of_a_slice_are_those_near_it():
    positions = np.array([[5.0, 1, 2], [7.4, 3, 4], [7.6, 5, 6], [5.0, 9, 9]])
    surfaces = SurfacePoints(positions, np.array([1, 1, 2, 2]))
    points, numbers = surfaces.near(XY, 5)
    assert points.tolist() == [[1, 2, 0], [3, 4, pytest.approx(2.4)], [9, 9, 0]]
    assert numbers.tolist() == [1, 1, 2]
    points, _ = surfaces.near(YZ, 2)
    assert points.tolist() == [[5, 1, 0], [7.4, 3, 2]]
    assert len(SurfacePoints()) == 0
    assert SurfacePoints().near(XZ, 0)[0].shape == (0, 3)


def test_surface_points_are_drawn_where_they_are():
    viewport = Viewport()
    viewport.fit((40, 50), (500, 400))
    picture = Image.new("RGB", (500, 400), (32, 32, 32))
    draw_points(picture, np.array([[10.0, 20.0, 0.0]]), np.array([7]), viewport)
    x, y = viewport.to_screen(10, 20, (500, 400))
    assert picture.getpixel((round(x), round(y))) == tuple(object_colours(np.array(7)).tolist())
    changed = (np.asarray(picture) != 32).any(axis=2)
    assert 9 < changed.sum() < 100


def test_what_is_no_label_is_background():
    values = np.array([[0.2, 0.9, -3.0, np.nan]])
    assert labels_of(values).tolist() == [[0, 1, 0, 0]]
    assert labels_of(np.array([[-1, 65535]], np.int32)).tolist() == [[0, 65535]]
    assert labels_of(np.array([[-1, 7]], np.int8)).tolist() == [[0, 7]]


@pytest.mark.parametrize("plane", list(PLANES.values()), ids=list(PLANES))
def test_circles_are_cuts_through_spheres(plane):
    centre = (20.0, 30.0, 40.0)
    marks = ParticleMarks([Particle(centre)], box_size=10)
    seen = {}
    for index in range(60):
        for circle in marks.circles(plane, index):
            assert (circle.row, circle.column) == plane.row_column(centre)
            seen[index - centre[plane.axis]] = circle
    assert sorted(seen) == list(range(-4, 5))
    for distance, circle in seen.items():
        assert circle.radius**2 + distance**2 == pytest.approx(25)
        assert circle.central == (distance == 0)


def test_no_particles_no_circles():
    assert list(ParticleMarks([], 10).circles(XY, 0)) == []


def test_particles_of_one_tomogram_are_taken_from_a_table_of_several(tmp_path):
    path = tmp_path / "labels_2.csv"
    path.write_text(
        "label,area,centroid-0,centroid-1,centroid-2,tomo,semantic_class\n"
        "1,50,1.5,2.5,3.5,TS_01.mrc,2\n"
        "1,60,9,9,9,TS_02,2\n"
    )
    assert read_particles_csv(path, "TS_01") == [Particle((1.5, 2.5, 3.5), "label 2", size=50)]
    assert len(read_particles_csv(path)) == 2
    assert by_class(read_particles_csv(path)) == [("label 2", 2)]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "centroid-0,centroid-1,centroid-2\n1,2,x\n"])
def test_a_table_without_centres_is_named(tmp_path, text):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(ViewerError, match=r"other\.csv is not a table"):
        read_particles_csv(path)


def test_what_does_not_fit_the_tomogram_is_left_out_with_a_note(tmp_path):
    tomogram = write_mrc(tmp_path / "a.mrc", counting())
    small = write_mrc(tmp_path / "small.mrc", counting((5, 6, 20), np.int8))
    files = SceneFiles(
        "TS",
        tomogram,
        beside=tmp_path / "gone.mrc",
        masks=[MaskFile(small, "lamella"), MaskFile(tomogram, "classes", {1: "one"})],
        particles=lambda: read_particles_csv(tmp_path / "gone.csv"),
    )
    scene = open_scene(files)
    assert [title for title, _ in scene.pictures] == ["tomogram"]
    assert [mask.title for mask in scene.masks] == ["classes"]
    assert scene.marks.particles == []
    notes = "\n".join(scene.notes)
    assert "gone.mrc" in notes
    assert "small.mrc is left out: it has 20 x 6 x 5 voxels" in notes
    assert "gone.csv" in notes


def test_without_the_tomogram_there_is_nothing_to_show(tmp_path):
    with pytest.raises(ViewerError, match=r"gone\.mrc"):
        open_scene(SceneFiles("TS", tmp_path / "gone.mrc"))
