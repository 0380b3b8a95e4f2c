from __future__ import annotations

import numpy as np
import pytest
from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.hdf5 import write_datasets
from cryosiam_engine.label_files import find_label_files, label_dtype, read_labels
from cryosiam_engine.volume import write_mrc


def numbers() -> np.ndarray:
    return np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def test_where_labels_are_looked_for(tmp_path) -> None:
    """The last of the list is written first, so that each new file is preferred to the former."""
    places = [
        "TS_01.rec",
        "TS_01.mrc",
        "TS_01_bin4.mrc",
        "TS_01_preds.mrc",
        "TS_01_preds.h5",
    ]
    for value, name in enumerate(places, start=1):
        labels = np.full((3, 4, 5), value, dtype=np.uint8)
        if name.endswith(".h5"):
            write_datasets(tmp_path / name, {"labels": labels})
        else:
            write_mrc(tmp_path / name, labels, voxel_size=10)
        path = find_label_files(tmp_path, "TS_01", "_bin4.mrc")[0]
        found = read_labels(path)
        assert path == tmp_path / name
        assert found.dtype.kind in "iu"
        np.testing.assert_array_equal(found, labels)


def test_absent_labels_name_what_was_looked_for(tmp_path) -> None:
    write_datasets(tmp_path / "TS_010_preds.h5", {"labels": numbers()})
    with pytest.raises(MaskError) as caught:
        find_label_files(tmp_path, "TS_01", ".map")
    for name in ("_preds.h5", "_preds.mrc", ".map", ".mrc", ".rec"):
        assert f"TS_01{name}" in caught.value.message
    assert str(tmp_path) in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("values", "kind", "itemsize"), [((0, 1), "u", 1), ((0, 300), "u", 2), ((-1, 5), "i", 2)]
)
def test_labels_stored_as_floats(tmp_path, values, kind, itemsize) -> None:
    labels = np.resize(np.array(values, dtype=np.float32), (3, 4, 5))
    write_mrc(tmp_path / "TS_01.mrc", labels, voxel_size=10)
    found = read_labels(tmp_path / "TS_01.mrc")
    assert found.dtype.kind == kind
    assert found.dtype.itemsize <= itemsize
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_a_probability_map_is_no_mask(tmp_path, value) -> None:
    labels = np.zeros((3, 4, 5), dtype=np.float32)
    labels[1, 2, 3] = value
    write_mrc(tmp_path / "TS_01.mrc", labels, voxel_size=10)
    with pytest.raises(MaskError, match=r"TS_01\.mrc is no label volume"):
        read_labels(tmp_path / "TS_01.mrc")


def test_a_damaged_mask_is_a_mask_error(tmp_path) -> None:
    write_mrc(tmp_path / "TS_01.mrc", numbers(), voxel_size=10)
    content = (tmp_path / "TS_01.mrc").read_bytes()
    (tmp_path / "TS_01.mrc").write_bytes(content[:-7])
    with pytest.raises(MaskError, match=r"7 of .* bytes are missing"):
        read_labels(tmp_path / "TS_01.mrc")


@pytest.mark.parametrize(
    ("n_classes", "dtype"), [(1, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16")]
)
def test_every_class_fits_its_type(n_classes, dtype) -> None:
    assert label_dtype(n_classes) == np.dtype(dtype)
    assert np.iinfo(label_dtype(n_classes)).max >= n_classes - 1


def test_too_many_classes() -> None:
    with pytest.raises(ConfigurationError):
        label_dtype(65537)


def test_masks_of_the_original(golden) -> None:
    folder = golden / "03_lamella_2d" / "out"
    (path,) = find_label_files(folder, "TS_edge", ".mrc")
    labels = read_labels(path)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1}
