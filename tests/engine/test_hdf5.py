from __future__ import annotations

import h5py
import numpy as np
import pytest
from cryosiam_engine.errors import MaskError
from cryosiam_engine.hdf5 import (
    StreamedDatasets,
    read_dataset,
    update_dataset,
    write_datasets,
)
from hypothesis import given, settings
from hypothesis import strategies as st

TYPES = ["uint8", "int16", "uint16", "uint32", "int64", "float32", "float64"]


def numbers(shape=(4, 5, 6), dtype="uint8", seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 7), min_size=0, max_size=4).map(tuple),
    dtype=st.sampled_from(TYPES),
)
def test_what_is_written_is_read(tmp_path_factory, shape, dtype) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.h5"
    data = numbers(shape, dtype)
    write_datasets(path, {"labels": data, "other": data + 1})
    read = read_dataset(path, "labels")
    assert read.dtype == data.dtype
    assert read.shape == shape
    np.testing.assert_array_equal(read, data)
    np.testing.assert_array_equal(read_dataset(path, "other"), data + 1)


def test_files_are_plain_hdf5(tmp_path) -> None:
    """As the original's: in the root, contiguous, uncompressed, without attributes."""
    write_datasets(tmp_path / "a.h5", {"labels": numbers()})
    with StreamedDatasets(tmp_path / "b.h5", {"probs": ((2, 4, 5, 6), "float32")}):
        pass
    write_datasets(tmp_path / "c.h5", {"labels": numbers()})
    update_dataset(tmp_path / "c.h5", "labels", numbers(dtype="int16"))
    for name, dataset in (("a.h5", "labels"), ("b.h5", "probs"), ("c.h5", "labels")):
        with h5py.File(tmp_path / name) as file:
            assert list(file) == [dataset]
            assert file[dataset].chunks is None
            assert file[dataset].compression is None
            assert not file[dataset].attrs
            assert not file.attrs


def test_the_original_is_read(golden) -> None:
    path = golden / "07_semantic_internal" / "out" / "TS_edge_preds.h5"
    with h5py.File(path) as file:
        expected = {name: dataset[()] for name, dataset in file.items()}
    assert set(expected) == {"labels", "probs", "distances"}
    for name, data in expected.items():
        read = read_dataset(path, name)
        assert read.dtype == data.dtype
        np.testing.assert_array_equal(read, data)


# --- block by block ------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_blocks_make_the_whole(tmp_path_factory, data) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks.h5"
    shape = data.draw(st.tuples(*[st.integers(1, 12)] * 3))
    expected = np.zeros(shape, dtype=np.int16)
    with StreamedDatasets(path, {"labels": (shape, np.int16)}) as file:
        for number in range(1, data.draw(st.integers(1, 6)) + 1):
            ends = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in shape]
            region = tuple(slice(low, high) for low, high in ends)
            block = np.full(expected[region].shape, number, dtype=np.int16)
            file.write("labels", region, block)
            expected[region] = block
    np.testing.assert_array_equal(read_dataset(path, "labels"), expected)


def test_a_region_may_leave_out_the_last_axes(tmp_path) -> None:
    with StreamedDatasets(
        tmp_path / "a.h5", {"probs": ((2, 4, 5, 6), "f4"), "labels": ((4, 5, 6), "u1")}
    ) as file:
        file.write("probs", (slice(1, 2), slice(0, 3)), np.ones((1, 3, 5, 6), "f4"))
        file.write("labels", (slice(2, 4),), np.full((2, 5, 6), 7, "u1"))
        assert not (tmp_path / "a.h5").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert read_dataset(tmp_path / "a.h5", "probs").sum() == 3 * 5 * 6
    assert read_dataset(tmp_path / "a.h5", "probs")[1, :3].all()
    assert (read_dataset(tmp_path / "a.h5", "labels")[2:] == 7).all()
    assert not read_dataset(tmp_path / "a.h5", "labels")[:2].any()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_file_leaves_the_old_one(tmp_path, error) -> None:
    path = tmp_path / "a.h5"
    write_datasets(path, {"labels": numbers()})
    with (
        pytest.raises(error),
        StreamedDatasets(path, {"labels": ((4, 5, 6), "u1")}) as file,
    ):
        file.write("labels", (slice(0, 2),), np.ones((2, 5, 6), "u1"))
        raise error
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(read_dataset(path, "labels"), numbers())


def test_a_block_that_does_not_fit_leaves_nothing(tmp_path) -> None:
    with (
        pytest.raises(TypeError),
        StreamedDatasets(tmp_path / "a.h5", {"labels": ((4, 5, 6), "u1")}) as file,
    ):
        file.write("labels", (slice(0, 2),), np.ones((3, 5, 6), "u1"))
    assert list(tmp_path.iterdir()) == []


# --- replacing one dataset -----------------------------------------------------------------------


def test_the_other_datasets_are_kept(tmp_path) -> None:
    path = tmp_path / "TS_01_preds.h5"
    kept = {"probs": numbers((3, 4, 5, 6), "float32"), "distances": numbers((2,), "int64")}
    write_datasets(path, {**kept, "labels": numbers()})
    update_dataset(path, "labels", numbers((7, 8, 9), "uint16"))
    np.testing.assert_array_equal(read_dataset(path, "labels"), numbers((7, 8, 9)))
    for name, data in kept.items():
        np.testing.assert_array_equal(read_dataset(path, name), data)
        assert read_dataset(path, name).dtype == data.dtype
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_does_not_let_the_file_grow(tmp_path) -> None:
    path = tmp_path / "a.h5"
    write_datasets(path, {"labels": numbers((20, 50, 50)), "probs": numbers()})
    size = path.stat().st_size
    for seed in range(3):
        update_dataset(path, "labels", numbers((20, 50, 50), seed=seed))
    assert path.stat().st_size <= size


def test_a_dataset_is_added(tmp_path) -> None:
    write_datasets(tmp_path / "a.h5", {"labels": numbers()})
    update_dataset(tmp_path / "a.h5", "instances", numbers(seed=1))
    np.testing.assert_array_equal(read_dataset(tmp_path / "a.h5", "labels"), numbers())
    np.testing.assert_array_equal(read_dataset(tmp_path / "a.h5", "instances"), numbers(seed=1))


def test_nothing_to_replace(tmp_path) -> None:
    with pytest.raises(MaskError, match="does not exist"):
        update_dataset(tmp_path / "a.h5", "labels", numbers())
    assert list(tmp_path.iterdir()) == []


# --- files that cannot be read -------------------------------------------------------------------


def test_missing_or_a_folder(tmp_path) -> None:
    with pytest.raises(MaskError, match=r"a\.h5 does not exist"):
        read_dataset(tmp_path / "a.h5", "labels")
    with pytest.raises(MaskError, match="is a folder"):
        read_dataset(tmp_path, "labels")


def test_not_hdf5_or_cut_off(tmp_path) -> None:
    path = tmp_path / "a.h5"
    path.write_text("labels\n" * 500)
    with pytest.raises(MaskError, match=r"a\.h5 is not an HDF5 file, or is damaged"):
        read_dataset(path, "labels")
    write_datasets(path, {"labels": numbers()})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(MaskError, match=r"a\.h5 is not an HDF5 file, or is damaged"):
        read_dataset(path, "labels")


def test_the_datasets_that_are_there_are_named(tmp_path) -> None:
    path = tmp_path / "a.h5"
    write_datasets(path, {"foreground": numbers(), "distances": numbers()})
    with pytest.raises(MaskError, match="no dataset 'labels'; it has: distances, foreground"):
        read_dataset(path, "labels")
    with h5py.File(path, "w") as file:
        file.create_group("labels")
    with pytest.raises(MaskError, match="no dataset 'labels'"):
        read_dataset(path, "labels")
