from __future__ import annotations

from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
from cryosiam_engine.errors import MaskError
from cryosiam_engine.masks import load_mask
from skimage.transform import resize

SHAPE = (6, 8, 10)


def save(folder: Path, mask: np.ndarray, stem: str = "TS_01") -> None:
    with h5py.File(folder / f"{stem}_preds.h5", "w") as file:
        file["labels"] = mask


def most(dtype: str = "u1") -> np.ndarray:
    mask = np.zeros(SHAPE, dtype)
    mask[:, :, 2:] = 1
    return mask


@pytest.mark.parametrize("binary", [False, True])
def test_an_ordinary_mask_comes_as_it_is(tmp_path: Path, binary: bool) -> None:
    save(tmp_path, most())
    mask, warnings = load_mask(tmp_path, "TS_01", SHAPE, extension=".mrc", binary=binary)
    assert mask.dtype == np.int8
    np.testing.assert_array_equal(mask, most())
    assert warnings == []


def test_mrc_mask(tmp_path: Path) -> None:
    mrcfile.write(tmp_path / "TS_01.rec", most("i1"))
    mask, _ = load_mask(tmp_path, "TS_01", SHAPE, extension=".rec", binary=True)
    np.testing.assert_array_equal(mask, most())


def test_large_values_count_as_one_when_binary(tmp_path: Path) -> None:
    # 256 is 0 in eight bits: an instance mask must not lose that instance.
    save(tmp_path, most("u2") * 256)
    mask, warnings = load_mask(tmp_path, "TS_01", SHAPE, extension=".mrc", binary=True)
    np.testing.assert_array_equal(mask, most())
    assert len(warnings) == 1
    assert "256" in warnings[0]


def test_values_are_kept_when_not_binary(tmp_path: Path) -> None:
    save(tmp_path, most() * 4)
    mask, warnings = load_mask(tmp_path, "TS_01", SHAPE, extension=".mrc", binary=False)
    np.testing.assert_array_equal(mask, most() * 4)
    assert len(warnings) == 1


@pytest.mark.parametrize("shape", [(12, 16, 20), (3, 4, 5), (6, 11, 7)])
def test_another_shape_is_resized_with_a_warning(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    save(tmp_path, most())
    mask, warnings = load_mask(tmp_path, "TS_01", shape, extension=".mrc", binary=True)
    expected = resize(most("i1"), shape, mode="constant", preserve_range=True).astype(np.int8)
    np.testing.assert_array_equal(mask, expected)
    assert len(warnings) == 1
    assert "6 x 8 x 10" in warnings[0]
    assert " x ".join(map(str, shape)) in warnings[0]


def test_resized_mask_gives_the_labels_of_the_original(golden: Path) -> None:
    with h5py.File(golden / "07_semantic_internal/out/TS_small_preds.h5") as file:
        probabilities = file["probs"][()]
    probabilities[probabilities < 0.3] = 0
    unmasked = probabilities.argmax(axis=0)
    folder = golden / "08_semantic_mask_resized"
    mask, warnings = load_mask(
        folder / "masks", "TS_small", unmasked.shape, extension=".mrc", binary=True
    )
    with h5py.File(folder / "out/TS_small_preds.h5") as file:
        expected = file["labels"][()]
    assert (unmasked != expected).any()
    np.testing.assert_array_equal(unmasked * mask, expected)
    assert len(warnings) == 1


def test_reduced_mask_contains_the_labels_of_the_original(golden: Path) -> None:
    folder = golden / "08_semantic_mask_resized"
    with h5py.File(folder / "out/TS_c_preds.h5") as file:
        labels = file["labels"][()]
    mask, _ = load_mask(folder / "masks", "TS_c", labels.shape, extension=".mrc", binary=True)
    assert mask.shape == labels.shape
    assert not labels[mask == 0].any()


def test_missing_mask(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="TS_01") as caught:
        load_mask(tmp_path, "TS_01", SHAPE, extension=".mrc", binary=True)
    assert caught.value.remedy


def test_empty_mask(tmp_path: Path) -> None:
    save(tmp_path, np.zeros(SHAPE, np.uint8))
    with pytest.raises(MaskError, match=r"TS_01_preds\.h5 is empty") as caught:
        load_mask(tmp_path, "TS_01", SHAPE, extension=".mrc", binary=True)
    assert caught.value.remedy


def test_mask_that_vanishes_when_resized(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[3, 4, 5] = 1
    save(tmp_path, mask)
    with pytest.raises(MaskError, match=r"empty: .* after resizing to 3 x 4 x 5"):
        load_mask(tmp_path, "TS_01", (3, 4, 5), extension=".mrc", binary=True)


def test_flat_mask_is_refused(tmp_path: Path) -> None:
    save(tmp_path, most()[0])
    with pytest.raises(MaskError, match="2 dimensions"):
        load_mask(tmp_path, "TS_01", SHAPE, extension=".mrc", binary=True)
