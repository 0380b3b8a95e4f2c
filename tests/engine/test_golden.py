"""The original's outputs, case by case, against ours in ``reference`` tiling on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.sliding_window import SlidingWindow
from scipy.ndimage import distance_transform_edt

#: Network outputs agree to this; labels in this share of the voxels; centres to this.
ATOL, LABEL_AGREEMENT, CENTRE_ATOL = 1e-4, 0.9999, 1e-3

PREDICTIONS = [
    "01_denoise",
    "02_denoise_raw",
    "03_lamella_2d",
    "04_lamella_3d",
    "05_lamella_internal",
    "05b_lamella_internal_3d",
    "06_semantic_masked",
    "07_semantic_internal",
    "07b_semantic_internal_masked",
    "08_semantic_mask_resized",
    "20_variant_basic",
    "20_variant_bifpn",
    "20_variant_bifpn1",
    "20_variant_deep",
    "20_variant_later_conv",
    "20_variant_levels",
]


def run_case(
    golden: Path, case: str, out: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> int:
    """Run the case's own command and configuration, writing to `out` instead."""
    monkeypatch.chdir(golden)  # its configurations are relative to this folder
    config = yaml.safe_load((golden / case / "config.yaml").read_text())
    config["prediction_folder"] = str(out)
    path = out.parent / f"{case}.yaml"
    path.write_text(yaml.safe_dump(config))
    words = (golden / case / "command.txt").read_text().split()
    command = words[words.index("--config_file") - 1]
    filename = words[words.index("--filename") :] if "--filename" in words else []
    return main([command, "--config_file", str(path), *filename, *options])


def results_in(folder: Path) -> set[str]:
    """The names of the result files; status, logs and our own extra table left out."""
    return {
        path.name
        for path in folder.iterdir()
        if path.is_file() and not path.name.endswith("_particles.csv")
    }


def assert_same_mrc(ours: Path, theirs: Path) -> None:
    with mrcfile.open(ours) as a, mrcfile.open(theirs) as b:
        assert a.data.dtype == b.data.dtype
        np.testing.assert_allclose(a.data, b.data, atol=ATOL, err_msg=ours.name)
        assert np.allclose(a.voxel_size.tolist(), b.voxel_size.tolist())


def assert_same_hdf5(ours: Path, theirs: Path) -> None:
    with h5py.File(ours) as a, h5py.File(theirs) as b:
        assert set(a) == set(b)
        for key in b:
            assert a[key].dtype == b[key].dtype, f"{ours.name} {key}"
            assert a[key].shape == b[key].shape, f"{ours.name} {key}"
            assert a[key].chunks is None
            if key == "instances":
                assert np.array_equal(a[key][()], b[key][()]), f"{ours.name}"
            elif key == "labels":
                agreement = np.mean(a[key][()] == b[key][()])
                assert agreement >= LABEL_AGREEMENT, f"{ours.name}: {agreement}"
            else:
                # Raw distances reach 90: the tolerance is relative there.
                np.testing.assert_allclose(a[key][()], b[key][()], atol=ATOL, rtol=1e-5)


@pytest.mark.parametrize("case", PREDICTIONS)
def test_predictions(
    golden: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    code = run_case(golden, case, out, monkeypatch, "--tiling", "reference", "--device", "cpu")
    assert code == 0
    theirs = golden / case / "out"
    assert results_in(out) == results_in(theirs)
    for name in results_in(theirs):
        check = assert_same_hdf5 if name.endswith(".h5") else assert_same_mrc
        check(out / name, theirs / name)


def test_an_empty_lamella_is_empty(
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Where nothing exceeds the threshold the original marks the whole volume."""
    case, out = "03b_lamella_2d_thr09", tmp_path / "out"
    code = run_case(golden, case, out, monkeypatch, "--tiling", "reference", "--device", "cpu")
    assert code == 0
    marked_all = 0
    for name in results_in(golden / case / "out"):
        with h5py.File(out / name) as a, h5py.File(golden / case / "out" / name) as b:
            if b["labels"][()].all():
                marked_all += 1
                assert not a["labels"][()].any()
            else:
                assert np.mean(a["labels"][()] == b["labels"][()]) >= LABEL_AGREEMENT
    assert marked_all
    assert capfd.readouterr().err.count("NO LAMELLA FOUND") == marked_all


def test_labels_in_the_tomograms_own_format(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original crashes here and leaves an MRC without voxel size."""
    case, out = "09_semantic_save_mrc", tmp_path / "out"
    assert run_case(golden, case, out, monkeypatch, "--tiling", "reference") == 0
    assert results_in(out) == {"TS_edge.mrc"}
    with (
        mrcfile.open(out / "TS_edge.mrc") as ours,
        mrcfile.open(golden / case / "out" / "TS_edge.mrc") as theirs,
        mrcfile.open(golden / "01_denoise" / "out" / "TS_edge.mrc") as tomogram,
    ):
        assert np.mean(ours.data == theirs.data) >= LABEL_AGREEMENT
        assert ours.voxel_size.x == pytest.approx(tomogram.voxel_size.x)


def copied(golden: Path, case: str, out: Path) -> Path:
    """A writable copy of another case's results, which the command works on."""
    shutil.copytree(golden / case / "out", out, copy_function=shutil.copyfile)
    out.chmod(0o755)
    return out


def test_size_filter(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = "10_semantic_postprocessing"
    out = copied(golden, "06_semantic_masked", tmp_path / "out")
    assert run_case(golden, case, out, monkeypatch) == 0
    for name in results_in(golden / case / "out"):
        assert_same_hdf5(out / name, golden / case / "out" / name)


def test_size_filter_keeps_the_probability_maps(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original loses every other dataset of the file."""
    case = "10b_semantic_postprocessing_internal"
    out = copied(golden, "07_semantic_internal", tmp_path / "out")
    before = (out / "TS_small_preds.h5").read_bytes()
    assert run_case(golden, case, out, monkeypatch) == 0
    assert (out / "TS_small_preds.h5").read_bytes() == before  # not in the configuration's list
    source = golden / "07_semantic_internal" / "out" / "TS_edge_preds.h5"
    with (
        h5py.File(out / "TS_edge_preds.h5") as ours,
        h5py.File(golden / case / "out" / "TS_edge_preds.h5") as theirs,
        h5py.File(source) as whole,
    ):
        assert np.array_equal(ours["labels"][()], theirs["labels"][()])
        assert np.array_equal(ours["probs"][()], whole["probs"][()])
        assert np.array_equal(ours["distances"][()], whole["distances"][()])


@pytest.mark.parametrize("case", ["11_semantic_to_centers", "11b_semantic_to_centers_default"])
def test_centers(golden: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = copied(golden, "06_semantic_masked", tmp_path / "out")
    assert run_case(golden, case, out, monkeypatch) == 0
    theirs = golden / case / "out"
    assert results_in(out) == results_in(theirs)
    n_particles = 0
    for path in sorted(theirs.glob("labels_*.csv")):
        a, b = pd.read_csv(out / path.name), pd.read_csv(path)
        assert list(a.columns) == list(b.columns)
        a, b = (t.sort_values(["tomo", "label"], ignore_index=True) for t in (a, b))
        pd.testing.assert_frame_equal(a, b, atol=CENTRE_ATOL, check_dtype=False)
        n_particles += len(b)
    for path in sorted(theirs.glob("labels_*.star")):
        a, b = starfile.read(out / path.name), starfile.read(path)
        if not isinstance(b, pd.DataFrame):  # a single row is read as a mapping
            continue
        keys = ["rlnMicrographName", "rlnLabel"]
        a, b = (t.sort_values(keys, ignore_index=True) for t in (a, b))
        pd.testing.assert_frame_equal(a, b, atol=CENTRE_ATOL, check_dtype=False)
    assert n_particles


def test_centers_one_tomogram_at_a_time(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a job array does it: the tables are the same as from one run over all."""
    case = "11_semantic_to_centers"
    out = copied(golden, "06_semantic_masked", tmp_path / "out")
    for name in ("TS_b.mrc", "TS_a.mrc", "TS_edge.mrc", "TS_small.mrc", "TS_c.mrc", "TS_a.mrc"):
        assert run_case(golden, case, out, monkeypatch, "--filename", name) == 0
    for path in sorted((golden / case / "out").glob("labels_*.csv")):
        a, b = pd.read_csv(out / path.name), pd.read_csv(path)
        a, b = (t.sort_values(["tomo", "label"], ignore_index=True) for t in (a, b))
        pd.testing.assert_frame_equal(a, b, atol=CENTRE_ATOL, check_dtype=False)


INSTANCES = [
    "12_instance_d0_raw",
    "12_instance_d1",
    "12_instance_d1_raw_masked",
    "12_instance_d2",
    "12_instance_equal",
    "12_instance_min0",
    "12_instance_semantic_fg",
    "12_instance_thr1",
    "13_instance_multicut",
]


@pytest.mark.parametrize("case", INSTANCES)
def test_instances(
    golden: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers in the same voxels, the same tables byte by byte."""
    out = tmp_path / "out"
    assert run_case(golden, case, out, monkeypatch, "--tiling", "reference") == 0
    theirs = golden / case / "out"
    own = {f"{path.name.split('_instance')[0]}" for path in theirs.glob("*_instance_preds.h5")}
    assert results_in(out) == results_in(theirs) | {f"{s}_instance_regions.star" for s in own}
    for name in results_in(theirs):
        if name.endswith("_instance_regions.csv"):
            assert (out / name).read_bytes() == (theirs / name).read_bytes()
        else:
            assert_same_hdf5(out / name, theirs / name)


def test_maps_of_another_run_are_not_taken(
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The original takes any maps that lie there; then the mask has no effect."""
    case, before = "12_instance_cached", "12_instance_d0_raw"
    out = copied(golden, before, tmp_path / "out")
    assert run_case(golden, case, out, monkeypatch, "--tiling", "reference") == 0
    assert "computed again and replaced" in capfd.readouterr().err
    with (
        h5py.File(out / "TS_edge_preds.h5") as ours,
        h5py.File(golden / before / "out" / "TS_edge_preds.h5") as unmasked,
        h5py.File(golden / "03_lamella_2d" / "out" / "TS_edge_preds.h5") as lamella,
    ):
        mask = lamella["labels"][()]
        assert 0 < mask.mean() < 1
        for name in ("foreground", "distances", "boundaries"):
            np.testing.assert_allclose(ours[name][()], unmasked[name][()] * mask, atol=ATOL)


def test_other_thresholds_need_no_network(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where model, input and mask are the same, the result is that of the original's re-use."""
    case, before, out = "12_instance_cached", "12_instance_d0_raw", tmp_path / "out"
    assert run_case(golden, before, out, monkeypatch, "--tiling", "reference") == 0

    def run(*args: object, **options: object) -> None:
        raise AssertionError("the network was run again")

    monkeypatch.setattr(SlidingWindow, "run", run)
    config = yaml.safe_load((golden / case / "config.yaml").read_text())
    config |= {"prediction_folder": str(out), "mask_folder": None}
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(config))
    options = ["--config_file", str(path), "--tiling", "reference"]
    assert main(["instance_predict", *options]) == 0
    theirs = golden / case / "out"
    name = "TS_edge_instance_regions.csv"
    assert (out / name).read_bytes() == (theirs / name).read_bytes()
    assert_same_hdf5(out / "TS_edge_instance_preds.h5", theirs / "TS_edge_instance_preds.h5")


def filtered_folder(golden: Path, case: str, tmp_path: Path) -> Path:
    """Where the case's result will be; its input is copied from an earlier case."""
    return copied(golden, "12_instance_d1", tmp_path / "out").with_name("out_filtered")


@pytest.mark.parametrize("case", ["14_instance_filter_h5", "14_instance_filter_mrc"])
def test_instance_filter(
    golden: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered = filtered_folder(golden, case, tmp_path)
    assert run_case(golden, case, tmp_path / "out", monkeypatch) == 0
    theirs = golden / case / "out_filtered"
    for name in results_in(theirs):
        assert_same_hdf5(filtered / name, theirs / name)
        stem = name.split("_instance")[0]
        regions = f"{stem}_instance_regions.csv"
        all_rows = pd.read_csv(tmp_path / "out" / regions).set_index("label")
        kept = pd.read_csv(filtered / regions).set_index("label")
        with h5py.File(theirs / name) as file:
            ids = set(np.unique(file["instances"][()])) - {0}
        assert ids == set(kept.index)
        assert 0 < len(kept) <= len(all_rows)
        pd.testing.assert_frame_equal(kept, all_rows.loc[kept.index])


def test_instance_filter_by_another_label_than_1(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original removes everything when 1 is not in the list."""
    case = "14_instance_filter_h5_label3"
    filtered = filtered_folder(golden, case, tmp_path)
    # Not the case's own tomogram: that has no voxel of class 3.
    assert run_case(golden, case, tmp_path / "out", monkeypatch, "--filename", "TS_a.mrc") == 0
    with (
        h5py.File(golden / "06_semantic_masked" / "out" / "TS_a_preds.h5") as semantic,
        h5py.File(golden / "12_instance_d1" / "out" / "TS_a_instance_preds.h5") as before,
        h5py.File(filtered / "TS_a_instance_preds.h5") as after,
    ):
        near = distance_transform_edt(semantic["labels"][()] != 3) <= 2
        instances, left = before["instances"][()], after["instances"][()]
    ids = set(np.unique(instances[near])) - {0}
    assert 0 < len(ids) < instances.max()
    assert np.array_equal(left, np.where(np.isin(instances, list(ids)), instances, 0))


def test_max_pooling_is_refused(
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The original computes half-size tiles and then fails to put them together."""
    assert run_case(golden, "20_variant_maxpool", tmp_path / "out", monkeypatch) == 2
    assert "max pooling" in capfd.readouterr().err
