from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from cryosiam_engine import preprocessing
from cryosiam_engine.instances.table import (
    REGION_COLUMNS,
    measure_instances,
    read_table,
    summarise,
    voxel_volume,
    write_tables,
)
from cryosiam_engine.simulation import SimulationSettings, simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops_table

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


def blobs() -> st.SearchStrategy[np.ndarray]:
    """Ids with gaps, in pieces, and volumes that hold nothing else."""
    elements = st.sampled_from([0, 1, 2, 5])

    def limited(volume: np.ndarray) -> np.ndarray:
        return np.where(volume <= volume.size, volume, 0).astype(volume.dtype)

    return SHAPES.flatmap(
        lambda shape: st.sampled_from([np.uint16, np.uint32, np.uint64]).flatmap(
            lambda dtype: arrays(dtype, shape, elements=elements)
        )
    ).map(limited)


@given(blobs(), st.integers(1, 50))
@settings(deadline=None, max_examples=150)
def test_equal_to_regionprops(instances: np.ndarray, slab_voxels: int) -> None:
    probability = np.random.default_rng(0).random(instances.shape, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocessing, "SLAB_VOXELS", slab_voxels)
        table = measure_instances(instances, probability)
    expected = regionprops_table(
        instances.astype(np.int64),
        intensity_image=probability.astype(np.float64),
        properties=("label", "area", "bbox", "centroid", "mean_intensity"),
    )
    assert list(table.columns) == [*REGION_COLUMNS, "score"]
    for column in REGION_COLUMNS[:8]:
        assert np.array_equal(table[column], expected[column]), column
    for column in REGION_COLUMNS[8:]:
        np.testing.assert_allclose(table[column], expected[column], atol=1e-9)
    np.testing.assert_allclose(table["score"], expected["mean_intensity"], atol=1e-6)


def test_centroids_far_from_the_corner() -> None:
    """Sums of large coordinates over many voxels lose nothing."""
    instances = np.zeros((3, 700, 900), np.uint32)
    instances[:, 350:, 450:] = 1
    instances[2, 699, 899] = 2
    table = measure_instances(instances)
    inside = np.argwhere(instances == 1)
    np.testing.assert_allclose(
        table.loc[0, REGION_COLUMNS[8:]].astype(float), inside.mean(0), rtol=1e-12
    )
    assert table.loc[1, REGION_COLUMNS[2:8]].tolist() == [2, 699, 899, 3, 700, 900]


def test_many_instances() -> None:
    """Nothing is done instance by instance: 100,000 are no work."""
    instances = np.arange(1, 60 * 60 * 60 + 1, dtype=np.uint32).reshape(60, 60, 60)
    instances[instances > 100_000] = 0
    table = measure_instances(instances, np.ones(instances.shape, np.float32))
    assert len(table) == 100_000
    assert (table["area"] == 1).all() and (table["score"] == 1).all()
    z, y, x = np.unravel_index(table["label"] - 1, instances.shape)
    assert np.array_equal(table[REGION_COLUMNS[8:]], np.stack([z, y, x], axis=1))


def test_simulated_particles() -> None:
    """Found where the simulator put them."""
    truth = simulate(
        SimulationSettings(
            shape=(40, 48, 56),
            voxel_size=13.48,
            particles_per_species={"ribosome": 3},
            membranes=0,
            seed=4,
        ),
        "TS_01",
    )
    table = measure_instances(truth.instances.astype(np.uint32)).set_index("label")
    assert len(table) == len(truth.particles) > 1
    for _, particle in truth.particles.iterrows():
        row = table.loc[particle["label"]]
        assert row["area"] == particle["area"]
        for axis in range(3):
            assert abs(row[f"centroid-{axis}"] - particle[f"centroid-{axis}"]) < 1


def test_summary_of_balls() -> None:
    z, y, x = np.mgrid[:40, :40, :80]
    instances = np.zeros(z.shape, np.uint32)
    for label, (centre, radius) in enumerate([(20, 12.0), (50, 8.0)], 1):
        ball = (z - 20) ** 2 + (y - 20) ** 2 + (x - centre) ** 2 < radius**2
        instances[ball & (instances == 0)] = label
    table = measure_instances(instances)
    summary = summarise(table, nm3_per_voxel=2.0)
    assert summary["n_instances"] == 2
    assert summary["max_diameter"] == pytest.approx(24, rel=0.02)
    assert summary["median_volume_voxels"] == table["area"].mean()
    assert summary["median_volume_nm3"] == 2 * table["area"].mean()
    assert 16 < summary["median_diameter"] < 24
    assert summarise(measure_instances(np.zeros((2, 2, 2), np.uint32)), 2.0) == {"n_instances": 0}


def test_voxel_volume() -> None:
    assert voxel_volume((10.0, 10.0, 20.0)) == pytest.approx(2.0)  # nm³
    assert voxel_volume((0.0, 10.0, 10.0)) is None
    assert voxel_volume(None) is None


def measured() -> pd.DataFrame:
    instances = np.zeros((4, 5, 6), np.uint32)
    instances[1, 1:3, 1:3], instances[3, 4, 5] = 1, 3
    return measure_instances(instances, np.full(instances.shape, 0.75, np.float32))


def test_written_tables(tmp_path: Path) -> None:
    outputs = write_tables(measured(), tmp_path, "TS_1.5", nm3_per_voxel=2.0)
    assert [output.kind for output in outputs] == ["particles", "regions", "star"]
    assert (tmp_path / "TS_1.5_instance_regions.csv").read_bytes() == (
        b"label,area,bbox-0,bbox-1,bbox-2,bbox-3,bbox-4,bbox-5,centroid-0,centroid-1,centroid-2\r\n"
        b"1,4.0,1,1,1,2,3,3,1.0,1.5,1.5\r\n3,1.0,3,4,5,4,5,6,3.0,4.0,5.0\r\n"
    )
    particles = pd.read_csv(tmp_path / "TS_1.5_particles.csv")
    bounds = [f"bbox-{i}" for i in range(6)]
    centroids = [f"centroid-{i}" for i in range(3)]
    wanted = ["label", "area", "volume_nm3", *bounds, *centroids, "score", "tomo"]
    assert list(particles) == wanted
    assert particles["volume_nm3"].tolist() == [8.0, 2.0]
    assert particles["score"].tolist() == [0.75, 0.75]
    star = starfile.read(tmp_path / "TS_1.5_instance_regions.star", always_dict=False)
    assert star["rlnCoordinateX"].tolist() == [1.5, 5.0]
    assert star["rlnBbox-5"].tolist() == [3, 6]
    assert star["rlnMicrographName"].tolist() == ["TS_1.5", "TS_1.5"]
    assert star["rlnAutopickFigureOfMerit"].tolist() == [0.75, 0.75]


def test_what_is_not_known_has_no_column(tmp_path: Path) -> None:
    write_tables(measured().drop(columns="score"), tmp_path, "TS_01", nm3_per_voxel=None)
    particles = pd.read_csv(tmp_path / "TS_01_particles.csv")
    assert not {"score", "volume_nm3"} & set(particles)
    star = starfile.read(tmp_path / "TS_01_instance_regions.star", always_dict=False)
    assert "rlnAutopickFigureOfMerit" not in star


def test_tables_without_rows(tmp_path: Path) -> None:
    table = measure_instances(np.zeros((2, 3, 4), np.uint32), np.zeros((2, 3, 4), np.float32))
    write_tables(table, tmp_path, "TS_01", nm3_per_voxel=1.0)
    regions = pd.read_csv(tmp_path / "TS_01_instance_regions.csv")
    assert list(regions) == REGION_COLUMNS and regions.empty


def test_read_table(tmp_path: Path) -> None:
    write_tables(measured(), tmp_path, "TS_01", nm3_per_voxel=2.0)
    table = read_table(tmp_path, "TS_01")
    assert table is not None
    pd.testing.assert_frame_equal(table, measured(), check_dtype=False)
    assert read_table(tmp_path, "TS_02") is None
    (tmp_path / "TS_02_particles.csv").write_text("label,area,semantic_class\n1,4,2\n")
    assert read_table(tmp_path, "TS_02") is None, "another command's particles"
