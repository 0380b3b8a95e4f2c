"""Instances between the engine and Scipion: tables, masks, box size, surfaces, links."""

from __future__ import annotations

import csv
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

VOXEL_SIZE = 13.48
COLUMNS = ["label", "area", "volume_nm3", *(f"bbox-{i}" for i in range(6))]
COLUMNS += [*(f"centroid-{i}" for i in range(3)), "score", "tomo"]


@pytest.fixture
def labels() -> np.ndarray:
    """Three instances, one of them of a single voxel at a corner; number 3 is not taken."""
    volume = np.zeros((12, 20, 24), np.uint16)
    volume[2:7, 3:9, 4:12] = 1
    volume[2:7, 9:13, 4:12] = 2
    volume[11, 19, 23] = 4
    return volume


@pytest.fixture
def tomogram(domain, tmp_path):
    from tomo.objects import Tomogram

    return named(Tomogram(), write(tmp_path / "raw.mrc", np.zeros((12, 20, 24), np.float32)))


def named(item, path: Path):
    item.setFileName(str(path))
    item.setTsId("TS_01")
    item.setSamplingRate(VOXEL_SIZE)
    item.setOrigin()
    return item


def write(path: Path, volume: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(volume)
        mrc.set_volume()
        mrc.voxel_size = VOXEL_SIZE
    return path


def write_table(path: Path, labels: np.ndarray, **more) -> Path:
    """As the engine writes it, except that the volume is as wrong as its header would be."""
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow([*COLUMNS, *more])
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            if box is None:
                continue
            area = int((labels == number).sum())
            bounds = [s.start for s in box] + [s.stop for s in box]
            centre = ndimage.center_of_mass(labels == number)
            row = [number, area, 99.0, *bounds, *centre, 0.75, "TS_01"]
            table.writerow([*row, *more.values()])
    return path


def test_coordinates_have_all_that_is_known(tomogram, labels, tmp_path):
    from cryosiam_plugin.convert import index_of, instance_coordinates, read_instances

    rows = read_instances(str(write_table(tmp_path / "a.csv", labels)))
    found = list(instance_coordinates(rows, tomogram, {}))
    assert [c._instanceId.get() for c in found] == [1, 2, 4]
    first, _, last = found
    np.testing.assert_allclose(index_of(first), (4, 5.5, 7.5), atol=1e-4)
    assert first._nVoxels.get() == 5 * 6 * 8
    assert first._volumeNm3.get() == pytest.approx(240 * (VOXEL_SIZE / 10) ** 3)
    assert (first._minZ.get(), first._minY.get(), first._minX.get()) == (2, 3, 4)
    assert (first._maxZ.get(), first._maxY.get(), first._maxX.get()) == (6, 8, 11)
    assert (last._minX.get(), last._maxX.get()) == (23, 23)
    assert first.getScore() == 0.75
    assert (first.getGroupId(), first._className.get()) == (1, "instance")


@pytest.mark.parametrize(
    ("semantic_class", "names", "expected"),
    [
        (3, {3: "ribosome"}, (3, "ribosome")),
        (3, {}, (3, "class 3")),
        (0, {3: "a", 4: "b"}, (1, "instance")),
    ],
)
def test_the_class_is_the_group(tomogram, labels, tmp_path, semantic_class, names, expected):
    from cryosiam_plugin.convert import instance_coordinates, read_instances

    table = write_table(tmp_path / "a.csv", labels, semantic_class=semantic_class)
    for c in instance_coordinates(read_instances(str(table)), tomogram, names):
        assert (c.getGroupId(), c._className.get()) == expected


def test_a_table_of_particles_is_no_table_of_instances(tmp_path, domain):
    from cryosiam_plugin.convert import read_instances

    path = tmp_path / "particles.csv"
    path.write_text("label,area,centroid-0,centroid-1,centroid-2,tomo\n1,5,1,2,3,TS_01\n")
    with pytest.raises(ValueError, match=r"particles\.csv is not a table of instances"):
        read_instances(str(path))
    path.write_text(",".join(COLUMNS) + "\n")
    assert read_instances(str(path)) == []


def test_a_mask_of_instances_is_known_by_its_column(tomogram, labels, tmp_path):
    from cryosiam_plugin.convert import instance_classes_of, instance_mask_from, tomo_mask_from

    path = str(write(tmp_path / "i.mrc", labels))
    assert instance_classes_of(instance_mask_from(tomogram, path, {})) == {}
    assert instance_classes_of(instance_mask_from(tomogram, path, {3: "ribosome"})) == {
        3: "ribosome"
    }
    assert instance_classes_of(tomo_mask_from(tomogram, path, {1: "lamella"})) is None


def test_the_filter_finds_mask_and_table(tomogram, labels, tmp_path):
    """The mask may be called anything; the table only counts beside it."""
    from tomo.objects import TomoMask

    from cryosiam_plugin.convert import link_instances

    source = tmp_path / "source"
    mask = named(TomoMask(), write(source / "anything.mrc", labels))
    run = tmp_path / "run"
    link = Path(link_instances(mask, str(run)))
    assert link == run / "TS_01_instance_preds.mrc"
    assert link.samefile(source / "anything.mrc")
    assert not (run / "TS_01_particles.csv").exists()
    write_table(source / "TS_01_particles.csv", labels)
    for _ in range(2):  # as Continue does
        link_instances(mask, str(run))
        assert (run / "TS_01_particles.csv").samefile(source / "TS_01_particles.csv")


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_the_box_has_room_for_the_median_instance(sizes):
    from collections import Counter

    from cryosiam_plugin.convert import suggested_box

    box = suggested_box(Counter(sizes))
    median = sorted(sizes)[(len(sizes) - 1) // 2]
    assert box % 2 == 0
    assert 0 <= box - 1.5 * (6 * median / np.pi) ** (1 / 3) < 2


def test_no_instances_have_no_box():
    from cryosiam_plugin.convert import suggested_box

    assert suggested_box({}) == 0


def ball(radius: float) -> np.ndarray:
    edge = int(np.ceil(radius)) + 1
    z, y, x = np.ogrid[-edge : edge + 1, -edge : edge + 1, -edge : edge + 1]
    return z**2 + y**2 + x**2 <= radius**2


@pytest.mark.parametrize("radius", [2, 4.5, 9])
def test_the_surface_of_a_ball_is_a_sphere_of_its_volume(radius):
    from cryosiam_plugin.protocols.instance_surfaces import surface_points

    inside = ball(radius)
    points = surface_points(inside, 80)
    distances = np.linalg.norm(points - (np.array(inside.shape) - 1) / 2, axis=1)
    same_volume = (3 * inside.sum() / (4 * np.pi)) ** (1 / 3)
    np.testing.assert_allclose(distances, same_volume, atol=0.35)


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 200), st.integers(0, 10**6))
def test_points_are_few_enough_and_at_the_border(most, seed):
    from cryosiam_plugin.protocols.instance_surfaces import surface_points

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((14, 15, 16)), 1.5)
    inside = noise > np.quantile(noise, 0.8)
    points = surface_points(inside, most)
    assert 1 <= len(points) <= most
    padded = np.pad(inside, 4)
    away = ndimage.distance_transform_edt(~padded) + ndimage.distance_transform_edt(padded)
    assert away[tuple(np.rint(points + 4).astype(int).T)].max() < 3.5


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 6, 6)])
def test_the_thinnest_instances_have_a_surface(shape):
    from cryosiam_plugin.protocols.instance_surfaces import surface_points

    points = surface_points(np.ones(shape, bool), 50)
    assert len(points) >= 4
    assert (points > -2).all()
    assert (points < np.array(shape) + 1).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_mesh_points_are_grouped_by_instance(tomogram, labels, tmp_path, dtype):
    """Also of masks with so many instances that they are stored as float32."""
    from cryosiam_plugin.convert import index_of, read_instances
    from cryosiam_plugin.protocols.instance_surfaces import mesh_points, surfaces_of_instances

    rows = read_instances(str(write_table(tmp_path / "a.csv", labels)))
    shift = 70000 if dtype == np.float32 else 0
    many = np.where(labels > 0, labels.astype(dtype) + dtype(shift), dtype(0))
    path = write(tmp_path / "i.mrc", many)
    rows = [{**row, "label": row["label"] + shift} for row in rows]
    points = list(mesh_points(surfaces_of_instances(rows, str(path), 20), tomogram))
    assert {point.getGroupId() for point in points} == {shift + n for n in (1, 2, 4)}
    for point in points:
        z, y, x = index_of(point)
        near = np.abs(np.argwhere(labels == point.getGroupId() - shift) - (z, y, x)).max(axis=1)
        assert near.min() < 1.6
        assert point.getVolumeName() == tomogram.getFileName()
