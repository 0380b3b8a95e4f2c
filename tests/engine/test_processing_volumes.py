"""Grey values, voxel sizes, and one mask from several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.processing.command import COMMANDS
from cryosiam_engine.processing.resampling import along_axis, output_shape, peak_bytes, resample
from cryosiam_engine.volume import read_header, read_volume, write_mrc
from hypothesis import given, settings
from hypothesis import strategies as st
from processing_runs import run_processing, status_of
from scipy import signal

INVERT = "processing_invert_scale"
CLASSES = "processing_create_multiclass_from_binary_masks"
PIXEL = "processing_match_pixel_size"
GEOMETRY = {"voxel_size": (7.1, 7.2, 7.3), "origin": (11.0, -12.0, 13.5)}


def noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 2, shape).astype(np.float32)


def same_geometry(one: Path, other: Path) -> bool:
    a, b = read_header(one), read_header(other)
    return (a.shape, a.voxel_size, a.origin) == (b.shape, b.voxel_size, b.origin)


# ---- grey values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "invert", "ends"),
    [
        ({"invert": True}, True, None),
        ({"invert": True, "lower_end_percentage": 0.1, "upper_end_percentage": 99.9}, True, True),
        ({"upper_end_percentage": 95}, False, (0, 95)),
        ({"lower_end_percentage": 0}, False, (0, 100)),
        ({"lower_end_percentage": 0, "upper_end_percentage": 90}, False, (0, 90)),
    ],
)
def test_invert_and_scale(tmp_path: Path, options: dict, invert: bool, ends: object) -> None:
    data = noise((12, 14, 16))
    write_mrc(tmp_path / "in" / "TS_1.mrc", data, **GEOMETRY)
    out = tmp_path / "out"
    assert run_processing(INVERT, input_path=tmp_path / "in", output_path=out, **options) == 0
    expected = -data if invert else data
    if ends is not None:
        percentages = (0.1, 99.9) if ends is True else ends
        low, high = np.percentile(expected, percentages)
        expected = np.clip((expected - low) / (high - low), 0, 1)
    np.testing.assert_allclose(read_volume(out / "TS_1.mrc").data, expected, atol=1e-5)
    assert same_geometry(tmp_path / "in" / "TS_1.mrc", out / "TS_1.mrc")


def test_a_file_a_folder_and_a_bad_one(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    bytes_ = np.full((4, 5, 6), -128, np.int8)
    bytes_[0] = 3
    write_mrc(folder / "TS_1.mrc", noise((4, 5, 6)), **GEOMETRY)
    write_mrc(folder / "TS_2.rec", bytes_, **GEOMETRY)
    (folder / "TS_3.mrc").write_bytes(b"no tomogram")
    (folder / "notes.txt").write_text("not a tomogram either")
    assert run_processing(INVERT, input_path=folder, output_path=out, invert=True) == 1
    assert sorted(path.name for path in out.iterdir()) == ["TS_1.mrc", "TS_2.rec", "status"]
    np.testing.assert_array_equal(read_volume(out / "TS_2.rec").data, -bytes_.astype(np.float32))
    single = tmp_path / "one" / "renamed.mrc"
    code = run_processing(INVERT, input_path=folder / "TS_1.mrc", output_path=single, invert=True)
    assert code == 0
    assert same_geometry(folder / "TS_1.mrc", single)


def test_invert_scale_refuses_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "TS_1.mrc"
    write_mrc(path, noise((4, 5, 6)), **GEOMETRY)
    where = {"input_path": path, "output_path": tmp_path / "o"}
    with pytest.raises(ConfigurationError, match="nothing to do"):
        run_processing(INVERT, **where)
    with pytest.raises(ConfigurationError, match="make no sense"):
        run_processing(INVERT, lower_end_percentage=5, upper_end_percentage=5, **where)
    with pytest.raises(ConfigurationError, match="overwrite"):
        run_processing(INVERT, invert=True, input_path=tmp_path, output_path=tmp_path)
    with pytest.raises(ConfigurationError, match="No tomograms"):
        (tmp_path / "empty").mkdir()
        run_processing(INVERT, invert=True, input_path=tmp_path / "empty", output_path=tmp_path)


# ---- classes ---------------------------------------------------------------------------------


def test_sorted_folders_become_classes(tmp_path: Path) -> None:
    root, out = tmp_path / "masks", tmp_path / "out"
    shape = (6, 7, 8)
    rng = np.random.default_rng(0)
    masks = {name: (rng.random(shape) < 0.3) for name in ("b_proteasome", "a_ribosome", "c")}
    for name, mask in masks.items():
        write_mrc(root / name / "TS_1.mrc", mask.astype(np.float32), **GEOMETRY)
    write_mrc(root / "c" / "TS_2.mrc", masks["c"], **GEOMETRY)
    assert run_processing(CLASSES, root_binary_masks_folder=root, output_dir=out) == 0
    expected = np.select([masks["c"], masks["b_proteasome"], masks["a_ribosome"]], [3, 2, 1])
    mask = read_volume(out / "TS_1.mrc").data
    assert mask.dtype == np.uint16
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(read_volume(out / "TS_2.mrc").data, 3 * masks["c"])
    assert same_geometry(root / "c" / "TS_1.mrc", out / "TS_1.mrc")
    table = pd.read_csv(out / "classes.csv")
    assert table.to_numpy().tolist() == [[1, "a_ribosome"], [2, "b_proteasome"], [3, "c"]]
    overlap = sum(mask.astype(int) for mask in masks.values())
    twice = int((overlap - 1).clip(0).sum())
    assert status_of(out, CLASSES, "TS_1")["warnings"][0].startswith(f"{twice} voxels")
    assert "classes 1, 2" in status_of(out, CLASSES, "TS_2")["warnings"][0]


def test_masks_of_other_sizes_fail_alone(tmp_path: Path) -> None:
    root, out = tmp_path / "masks", tmp_path / "out"
    for name, shape in (("a", (4, 5, 6)), ("b", (4, 5, 7))):
        write_mrc(root / name / "TS_1.mrc", np.ones(shape, np.int8), voxel_size=1)
        write_mrc(root / name / "TS_2.mrc", np.ones((4, 4, 4), np.int8), voxel_size=1)
    assert run_processing(CLASSES, root_binary_masks_folder=root, output_dir=out) == 1
    assert not (out / "TS_1.mrc").exists()
    assert (read_volume(out / "TS_2.mrc").data == 2).all()


def test_folders_that_would_shift_the_classes_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "masks"
    write_mrc(root / "a" / "TS_1.mrc", np.ones((4, 4, 4), np.int8), voxel_size=1)
    with pytest.raises(ConfigurationError, match="would count as a class"):
        run_processing(CLASSES, root_binary_masks_folder=root, output_dir=root / "out")
    (root / "b").mkdir()
    with pytest.raises(ConfigurationError, match="class 2 would be empty"):
        run_processing(CLASSES, root_binary_masks_folder=root, output_dir=tmp_path / "out")


# ---- voxel sizes -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 1000))
def test_one_axis_as_scipy_resamples(before: int, after: int, seed: int) -> None:
    part = np.random.default_rng(seed).normal(size=(3, before, 2)).astype(np.float32)
    expected = signal.resample(part.astype(np.float64), after, axis=1)
    np.testing.assert_allclose(along_axis(part, after, 1), expected, atol=2e-5)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("shape", [(10, 12, 14), (40, 44, 62), (20, 22, 30)])
def test_a_constant_stays_constant(shape: tuple[int, int, int], smooth: bool) -> None:
    volume = [np.full((20, 22, 31), 7.25, np.float32)]
    result = resample(volume, shape, smooth=smooth)
    assert volume == []
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.full(shape, 7.25), rtol=1e-5)


def test_a_wave_is_sampled_where_the_new_voxels_are() -> None:
    def wave(shape: tuple[int, int, int]) -> np.ndarray:
        z, y, x = np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij")
        return np.cos(2 * np.pi * (2 * z + 3 * y - 1 * x) + 0.4)

    before, after = (24, 30, 36), (16, 20, 24)
    small = resample([wave(before).astype(np.float32)], after)
    np.testing.assert_allclose(small, wave(after), atol=1e-5)
    back = resample([small], before)
    np.testing.assert_allclose(back, wave(before), atol=1e-5)


def test_the_smooth_filter_is_the_ellipsoid() -> None:
    """Against a filter of the whole spectrum, voxel by voxel."""
    before, after = (60, 72, 64), (48, 64, 80)
    data = noise(before)
    plain = resample([data.copy()], after)
    band = np.minimum(before, after)
    k = np.meshgrid(*[np.fft.fftfreq(n, 1 / n) for n in after], indexing="ij")
    depth = (1 - np.sqrt(sum((a / (n / 2)) ** 2 for a, n in zip(k, band, strict=True)))) * 24
    weights = 0.5 - 0.5 * np.cos(np.pi * np.clip(depth / 12, 0, 1))
    expected = np.fft.ifftn(np.fft.fftn(plain) * weights).real
    found = resample([data], after, smooth=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.std() < plain.std()


@settings(deadline=None, max_examples=100)
@given(st.tuples(*[st.integers(2, 900)] * 3), st.floats(1, 30), st.floats(1, 30))
def test_lengths_are_even_and_near(shape: tuple[int, int, int], size: float, wanted: float) -> None:
    found = output_shape(shape, (size, size, size), wanted)
    for length, n in zip(found, shape, strict=True):
        assert length % 2 == 0
        assert length == 2 or -0.5 <= length - n * size / wanted <= 1.5


def test_match_pixel_size_keeps_the_box(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    write_mrc(folder / "TS_1.mrc", noise((20, 33, 41)), voxel_size=10, origin=(5.0, 6.0, 7.0))
    write_mrc(folder / "TS_2.mrc", noise((20, 33, 41)), voxel_size=0)
    assert run_processing(PIXEL, input_path=folder, output_path=out, pixel_size=13.48) == 1
    result = read_volume(out / "TS_1.mrc")
    assert result.data.shape == (16, 24, 30)
    edges = np.multiply(result.header.voxel_size, result.data.shape[::-1])
    np.testing.assert_allclose(edges, [410, 330, 200], rtol=1e-6)
    assert result.header.origin == (5.0, 6.0, 7.0)
    assert result.data.mean() == pytest.approx(read_volume(folder / "TS_1.mrc").data.mean(), 1e-5)
    assert "not exactly 13.48 Å" in status_of(out, PIXEL, "TS_1")["warnings"][0]
    assert "--input_pixel_size" in status_of(out, PIXEL, "TS_2")["error"]["remedy"]
    given = {"input_pixel_size": 5, "pixel_size": 10}
    assert run_processing(PIXEL, input_path=folder, output_path=tmp_path / "o", **given) == 0
    assert read_volume(tmp_path / "o" / "TS_2.mrc").data.shape == (10, 16, 20)


def test_the_index_of_the_first_voxel_is_of_the_new_voxels(tmp_path: Path) -> None:
    path = tmp_path / "TS_1.mrc"
    write_mrc(path, noise((20, 20, 20)), voxel_size=10, nstart=(40, -20, 0))
    run_processing(PIXEL, input_path=path, output_path=tmp_path / "o", pixel_size=20)
    assert read_header(tmp_path / "o" / "TS_1.mrc").nstart == (20, -10, 0)


def test_a_slip_in_the_pixel_size_is_no_crash(tmp_path: Path) -> None:
    write_mrc(tmp_path / "TS_1.mrc", noise((20, 33, 41)), voxel_size=10)
    out = tmp_path / "out"
    code = run_processing(PIXEL, input_path=tmp_path, output_path=out, pixel_size=0.001)
    assert code == 1
    assert "GB of memory" in status_of(out, PIXEL, "TS_1")["error"]["message"]
    with pytest.raises(ConfigurationError, match="impossible"):
        run_processing(PIXEL, input_path=tmp_path, output_path=out, pixel_size=0)


def test_memory_is_at_most_twice_the_larger_volume() -> None:
    for after in ((50, 50, 50), (100, 100, 100), (200, 200, 200), (90, 110, 96)):
        larger = max(100**3, int(np.prod(after))) * 4
        for smooth in (False, True):
            assert peak_bytes((100, 100, 100), 4, after, smooth) <= 2.25 * larger


def test_the_options_are_those_of_the_original(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(COMMANDS) == {
        "processing_invert_scale",
        "processing_create_sphere_mask",
        "processing_create_sphere_mask_multiclass",
        "processing_create_binary_map_after_sta",
        "processing_create_multiclass_from_binary_masks",
        "processing_match_pixel_size",
    }
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            run_processing(name, help=True)
        assert "--output" in capsys.readouterr().out


#: Prints the peak growth of the memory (kB) during a resampling, its volume included.
MEASURED = """
import re, sys
from pathlib import Path
import numpy as np
from cryosiam_engine import preprocessing
from cryosiam_engine.processing.resampling import resample

def memory(name):
    text = Path("/proc/self/status").read_text()
    return int(re.search(name + r":\\s*(\\d+) kB", text).group(1))

preprocessing.SLAB_VOXELS = 200_000
before, after, smooth = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "smooth"
resample([np.ones((20, 20, 20), np.float32)], (24, 24, 24), smooth=smooth)
Path("/proc/self/clear_refs").write_text("5")
idle = memory("VmRSS")
held = [np.ones((before,) * 3, np.float32)]
resample(held, (after,) * 3, smooth=smooth)
print(memory("VmHWM") - idle)
"""


@pytest.mark.parametrize(
    ("before", "after", "smooth"),
    [(224, 160, "sharp"), (160, 224, "sharp"), (224, 160, "smooth"), (160, 224, "smooth")],
)
def test_measured_memory_is_what_is_promised(before: int, after: int, smooth: str) -> None:
    """Of the formula that decides whether a tomogram fits; a few slabs come on top."""
    command = [sys.executable, "-c", MEASURED, str(before), str(after), smooth]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    promised = peak_bytes((before,) * 3, 4, (after,) * 3, smooth == "smooth")
    slabs = 10 * 200_000 * 8
    assert 0.9 * promised < int(run.stdout) * 1024 < promised + slabs
