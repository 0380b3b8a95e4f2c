from __future__ import annotations

import argparse
import tracemalloc
from pathlib import Path
from typing import Any

import edt
import numpy as np
import pytest
from cryosiam_engine.config.training import DistanceMapsConfig
from cryosiam_engine.errors import MaskError
from cryosiam_engine.training.distance_maps import (
    opened_distance_maps,
    run,
    signed_distance,
    write_distance_maps,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from training_files import ARGS, blobs, load, write_labels  # noqa: F401


def expected_distance(inside: np.ndarray) -> np.ndarray:
    """Measured in a frame of other voxels, on each side of the surface."""
    both = []
    for mask in (inside, ~inside):
        framed = np.pad(mask, 1)
        both.append(ndimage.distance_transform_edt(framed)[1:-1, 1:-1, 1:-1])
    return both[0] - both[1]


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.integers(2, 14)] * 3), st.integers(0, 1000), st.floats(0, 1))
def test_signed_distance(shape: tuple[int, int, int], seed: int, part: float) -> None:
    inside = np.random.default_rng(seed).random(shape) < part
    expected = expected_distance(inside)
    reference = edt.sdf(inside, black_border=True)
    found = signed_distance(inside.copy())
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(found, reference, rtol=1e-6)


def test_a_ball_has_its_distances() -> None:
    z, y, x = np.ogrid[-20:21, -20:21, -20:21]
    radius = np.sqrt(z**2 + y**2 + x**2)
    found = signed_distance(radius <= 12)
    # To the nearest voxel on the other side: half a voxel from the surface, in general.
    near = (radius > 2) & (radius < 16)
    assert np.abs(found - (12 - radius))[near].max() < 1.2
    assert (found > 0).sum() == (radius <= 12).sum()


@pytest.mark.parametrize("n_channels", [1, 4])
def test_the_file_is_as_numpy_writes_it(tmp_path: Path, n_channels: int) -> None:
    labels = blobs((11, 12, 13), max(n_channels, 2))
    path = tmp_path / "distances" / "TS_1.npz"
    write_distance_maps(path, labels, n_channels)
    with np.load(path) as archive:
        assert archive.files == ["data"]
        data = archive["data"]
    assert data.dtype == np.float32
    expected = [expected_distance(labels == channel) for channel in range(n_channels)]
    np.testing.assert_allclose(data, expected, rtol=1e-5)
    assert list(path.parent.iterdir()) == [path]


def test_maps_stay_on_the_disk(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(3, 8, 9, 10)).astype(np.float32)
    path = tmp_path / "original.npz"
    np.savez_compressed(path, data=data)
    with opened_distance_maps(path) as maps:
        assert isinstance(maps, np.memmap)
        np.testing.assert_array_equal(maps[:, 2:5, 1:3, 4:9], data[:, 2:5, 1:3, 4:9])
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MaskError, match="semantic_train_preprocess"), opened_distance_maps(path):
        pass
    with pytest.raises(MaskError, match="cannot be read"), opened_distance_maps(tmp_path / "no"):
        pass


def test_memory_does_not_grow_with_the_classes(tmp_path: Path) -> None:
    labels = blobs((60, 60, 60), 3)

    def peak(n_channels: int) -> int:
        tracemalloc.start()
        write_distance_maps(tmp_path / "x.npz", labels, n_channels)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(9) < 1.2 * peak(3)


def test_the_command(tmp_path: Path, load: Any) -> None:  # noqa: F811
    folder = tmp_path / "labels"
    labels = blobs((12, 14, 16), 3)
    write_labels(folder, "TS_1", labels)
    write_labels(folder, "TS_1_2", labels.astype(np.float32))  # as the original writes labels
    write_labels(folder, "TS_3", labels + np.uint8(1))
    (folder / "TS_4.mrc").write_bytes(b"")
    config = load(DistanceMapsConfig)
    report = run(config, ARGS)
    assert sorted(report.done) == ["TS_1", "TS_1_2"]
    assert "labels from 1 to 3" in report.failed["TS_3"]
    assert "is empty" in report.failed["TS_4"]
    with np.load(tmp_path / "temp" / "distances" / "TS_1_2.npz") as archive:
        assert archive["data"].shape == (3, 12, 14, 16)
    # Only what is asked for, and the lists of the configuration.
    report = run(config, argparse.Namespace(filename=["TS_1"]))
    assert (report.skipped, report.failed) == (["TS_1"], {})
    chosen = load(DistanceMapsConfig, train_files=["TS_1.mrc"], val_files=["TS_1_2.mrc"])
    assert sorted(run(chosen, ARGS).skipped) == ["TS_1", "TS_1_2"]
    more = load(DistanceMapsConfig, parameters={"network": {"out_channels": 4}})
    assert "TS_3" in run(more, ARGS).done
