"""``instance_predict`` as a user meets it, with an untrained network on simulated tomograms."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edt
import h5py
import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch
from cryosiam_engine import preprocessing
from cryosiam_engine.cli import main
from cryosiam_engine.errors import MaskError
from cryosiam_engine.hdf5 import write_datasets
from cryosiam_engine.instances import files as instance_files
from cryosiam_engine.instances.diagnosis import explain_empty
from cryosiam_engine.instances.files import InstanceFiles, find_instance_files, read_instances
from cryosiam_engine.networks import random_checkpoint
from cryosiam_engine.separation import SeparationSettings
from cryosiam_engine.sliding_window import SlidingWindow
from cryosiam_engine.volume import VolumeHeader, read_header, write_mrc
from scipy.ndimage import gaussian_filter

#: Settings with which the untrained network finds many instances.
NETWORK = {
    "threshold_foreground": 0.5,
    "min_center_distance": 0.1,
    "max_center_distance": 2,
    "distance_type": 1,
    "boundary_bias": 0.5,
    "postprocessing": False,
}
SHAPE = (24, 32, 40)
HEADER = VolumeHeader((2, 3, 4), (7.0, 8.0, 9.0), (1.0, 2.0, 3.0), (0, 0, 0), 2)

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def data(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the middles of two simulated tomograms."""
    folder = tmp_path_factory.mktemp("data")
    for stem in ("TS_01", "TS_02"):
        middle = mrcfile.read(simulated / f"{stem}.mrc")[8:32, 8:40, 8:48]
        write_mrc(folder / f"{stem}.mrc", middle, voxel_size=13.48)
    return folder


@pytest.fixture
def predict(
    write_config: Callable[..., Path], data: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run instance_predict on TS_01 with some changes; give the exit code and what was said."""

    def run(*options: str, network: dict[str, Any] | None = None, **changes: Any) -> Any:
        changes = {"test_files": ["TS_01.mrc"], "data_folder": str(data), **changes}
        config = write_config("instance", NETWORK | (network or {}), **changes)
        code = main(["instance_predict", "--config_file", str(config), *options])
        return code, capfd.readouterr().err

    return run


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the network was asked for, one entry for each time it ran."""
    calls = []
    original = SlidingWindow.run

    def spy(self: SlidingWindow, volume: Any, heads: Any, consume: Any, **options: Any) -> Any:
        calls.append({"heads": list(heads), "needed": options["needed"]})
        return original(self, volume, heads, consume, **options)

    monkeypatch.setattr(SlidingWindow, "run", spy)
    return calls


@pytest.fixture
def semantic(tmp_path: Path) -> Path:
    """A semantic segmentation of TS_01: two balls of class 3, and class 1 elsewhere."""
    z, y, x = np.indices(SHAPE)
    labels = np.ones(SHAPE, np.uint8)
    for centre in (10, 29):
        labels[(z - 12) ** 2 + (y - 16) ** 2 + (x - centre) ** 2 < 81] = 3
    write_datasets(tmp_path / "semantic" / "TS_01_preds.h5", {"labels": labels})
    return tmp_path / "semantic"


def half_mask(folder: Path) -> Path:
    """A lamella mask of TS_01: the first half of the sections."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[: len(mask) // 2] = 1
    write_datasets(folder / "TS_01_preds.h5", {"labels": mask})
    return folder


def instances_in(folder: Path) -> np.ndarray:
    with h5py.File(folder / "TS_01_instance_preds.h5") as file:
        return file["instances"][()]


def maps_in(folder: Path) -> dict[str, np.ndarray]:
    with h5py.File(folder / "TS_01_preds.h5") as file:
        return {name: file[name][()] for name in file}


def status(folder: Path, stem: str = "TS_01") -> dict[str, Any]:
    return json.loads((folder / "status" / f"{stem}.json").read_text())


# ---- the ordinary way ----------------------------------------------------------------------------


def test_results_agree_with_each_other(predict: Run, tmp_path: Path) -> None:
    code, said = predict(output_format="both", save_raw_predictions=True)
    assert code == 0, said
    out = tmp_path / "out"
    instances, maps = instances_in(out), maps_in(out)
    assert instances.dtype == np.uint32
    found = mrcfile.read(out / "TS_01_instance_preds.mrc")
    assert found.dtype == np.uint16
    assert np.array_equal(found, instances)
    assert read_header(out / "TS_01_instance_preds.mrc").voxel_size == pytest.approx((13.48,) * 3)
    particles = pd.read_csv(out / "TS_01_particles.csv")
    assert len(particles) == len(np.unique(instances)) - 1 > 10
    for row in particles.sample(5, random_state=0).itertuples():
        inside = instances == row.label
        assert row.area == inside.sum()
        assert row.volume_nm3 == pytest.approx(inside.sum() * 1.348**3, rel=1e-5)
        assert row.score == pytest.approx(maps["foreground"][inside].mean(), abs=1e-5)
        assert row.tomo == "TS_01"
    left = status(out)
    summary = left["summary"]
    assert summary["n_instances"] == len(particles)
    assert summary["median_volume_voxels"] == particles["area"].median()
    assert summary["maximum_foreground"] == maps["foreground"].max()
    kinds = [output["kind"] for output in left["outputs"]]
    assert kinds == ["instances", "instances", "particles", "regions", "star", "raw"]
    assert not left["warnings"]


@pytest.mark.parametrize(
    ("changes", "heads"),
    [
        ({"distance_type": 2}, ["foreground"]),
        ({"distance_type": 0}, ["foreground", "distances"]),
        ({"distance_type": 1, "postprocessing": True}, ["foreground", "distances", "boundaries"]),
        ({"distance_type": 2, "postprocessing": True}, ["foreground", "boundaries"]),
        ({"distance_type": 2, "postprocessing": True, "boundary_bias": 1}, ["foreground"]),
    ],
)
def test_only_maps_that_are_used_are_computed(
    changes: dict[str, Any], heads: list[str], predict: Run, computed: list, tmp_path: Path
) -> None:
    assert predict(network=changes)[0] == 0
    assert [call["heads"] for call in computed] == [heads]
    assert not (tmp_path / "out" / "TS_01_preds.h5").exists()


def test_labels_instead_of_the_foreground(
    predict: Run, computed: list, semantic: Path, tmp_path: Path
) -> None:
    """Two balls of the semantic segmentation are two instances; no network is needed for it."""
    changes = {"semantic_predictions": str(semantic), "semantic_foreground_labels": [3]}
    balls = {"distance_type": 2, "min_center_distance": 1, "max_center_distance": 4}
    assert predict(network=balls, **changes)[0] == 0
    assert not computed
    instances = instances_in(tmp_path / "out")
    with h5py.File(semantic / "TS_01_preds.h5") as file:
        assert np.array_equal(instances > 0, file["labels"][()] == 3)
    assert instances.max() == 2
    assert predict(network=balls | {"distance_type": 1}, **changes)[0] == 0
    assert [call["heads"] for call in computed] == [["distances"]]


def test_a_mask_counts_for_labels_too(
    predict: Run, semantic: Path, tmp_path: Path, computed: list
) -> None:
    mask = half_mask(tmp_path / "mask")
    network = {"distance_type": 1, "min_center_distance": 0.1}
    code, _ = predict(
        network=network,
        semantic_predictions=str(semantic),
        semantic_foreground_labels=[3],
        mask_folder=str(mask),
        save_raw_predictions=True,
    )
    assert code == 0
    assert computed[0]["needed"][:12].all() and not computed[0]["needed"][12:].any()
    instances, maps = instances_in(tmp_path / "out"), maps_in(tmp_path / "out")
    assert instances[:12].any() and not instances[12:].any()
    # What is saved is the network's foreground, masked, and not the labels.
    assert 0 < maps["foreground"][:12].min() < maps["foreground"][:12].max() < 1
    assert all(map_[:12].any() and not map_[12:].any() for map_ in maps.values())


# ---- maps of an earlier run ----------------------------------------------------------------------


def test_other_thresholds_take_only_the_separation(
    predict: Run, computed: list, tmp_path: Path
) -> None:
    assert predict(save_raw_predictions=True)[0] == 0
    before = instances_in(tmp_path / "out")
    other = {"threshold_foreground": 0.55}
    code, said = predict(network=other, save_raw_predictions=True)
    assert code == 0 and "only the separation is done" in said
    assert len(computed) == 1
    after = instances_in(tmp_path / "out")
    assert 0 < (after > 0).sum() < (before > 0).sum()
    # The same as from nothing, and also found when the maps are not to be kept any more.
    shutil.rmtree(tmp_path / "out" / "status")
    assert predict(network=other)[0] == 0
    assert len(computed) == 2
    assert np.array_equal(instances_in(tmp_path / "out"), after)


def test_nothing_is_done_twice(predict: Run, computed: list) -> None:
    predict(save_raw_predictions=True)
    assert "skipped" in predict(save_raw_predictions=True)[1]
    assert len(computed) == 1


@pytest.mark.parametrize("change", ["mask", "model", "intensity", "tiling", "overwrite", "file"])
def test_maps_of_other_circumstances_are_computed_again(
    change: str,
    predict: Run,
    computed: list,
    tmp_path: Path,
) -> None:
    changes: dict[str, Any] = {"save_raw_predictions": True}
    network = {"threshold_foreground": 0.5, "distance_type": 2}
    assert predict(network=network, **changes)[0] == 0
    options = {"tiling": ["--tiling", "reference"], "overwrite": ["--overwrite"]}.get(change, [])
    if change == "mask":
        changes["mask_folder"] = str(half_mask(tmp_path / "mask"))
    elif change == "model":
        torch.save(random_checkpoint("instance", seed=9), tmp_path / "other.ckpt")
        changes["trained_model"] = str(tmp_path / "other.ckpt")
    elif change == "intensity":
        changes["parameters"] = {"data": {"std": 2}, "network": NETWORK | network}
    elif change == "file":
        (tmp_path / "out" / "TS_01_preds.h5").touch()
    before = maps_in(tmp_path / "out")["foreground"]
    assert predict(*options, network=network, **changes)[0] == 0
    assert len(computed) == 2
    if change in ("mask", "model", "intensity"):
        assert not np.array_equal(maps_in(tmp_path / "out")["foreground"], before)


def test_another_programs_file_stays_unless_maps_are_saved(predict: Run, tmp_path: Path) -> None:
    foreign = tmp_path / "out" / "TS_01_preds.h5"
    write_datasets(foreign, {"foreground": np.zeros(SHAPE, np.float32)})
    content = foreign.read_bytes()
    code, said = predict()
    assert code == 0 and "replaced" not in said
    assert foreign.read_bytes() == content
    assert instances_in(tmp_path / "out").any(), "its zeros were not taken for the foreground"
    code, said = predict(save_raw_predictions=True)
    assert code == 0 and "TS_01_preds.h5" in said and "replaced" in said
    assert any("replaced" in warning for warning in status(tmp_path / "out")["warnings"])
    assert set(maps_in(tmp_path / "out")) == {"foreground", "distances", "boundaries"}
    _, said = predict("--overwrite", save_raw_predictions=True)
    assert "replaced" not in said, "now it is ours"


# ---- what can go wrong ---------------------------------------------------------------------------


def test_labels_of_another_shape(predict: Run, computed: list, tmp_path: Path) -> None:
    write_datasets(tmp_path / "semantic" / "TS_01_preds.h5", {"labels": np.ones((4, 5, 6), "u1")})
    code, said = predict(
        semantic_predictions=str(tmp_path / "semantic"), semantic_foreground_labels=[1]
    )
    assert code == 1 and not computed
    for part in ("TS_01_preds.h5", "(4, 5, 6)", "TS_01.mrc", str(SHAPE)):
        assert part in said


def test_labels_missing(predict: Run, semantic: Path, tmp_path: Path) -> None:
    """The tomogram without them fails before it is computed, the other is done."""
    network = {"distance_type": 2, "min_center_distance": 1}
    code, said = predict(
        network=network,
        semantic_predictions=str(semantic),
        semantic_foreground_labels=[3],
        test_files=["TS_01.mrc", "TS_02.mrc"],
    )
    assert code == 1
    assert "No labels or mask of TS_02" in said
    assert status(tmp_path / "out")["state"] == "done"
    assert status(tmp_path / "out", "TS_02")["state"] == "failed"


def test_labels_without_any_foreground(predict: Run, semantic: Path, tmp_path: Path) -> None:
    code, said = predict(
        network={"distance_type": 2},
        semantic_predictions=str(semantic),
        semantic_foreground_labels=[2, 7],
    )
    assert code == 0
    assert "[2, 7]; it has [1, 3]" in said and "NO INSTANCES" in said


def test_no_foreground_is_said_loudly(predict: Run, tmp_path: Path) -> None:
    code, said = predict(network={"threshold_foreground": 0.99}, save_raw_predictions=True)
    assert code == 0
    out = tmp_path / "out"
    smooth = gaussian_filter(maps_in(out)["foreground"], 0.5, mode="nearest").max()
    warning = " ".join(status(out)["warnings"])
    assert "NO INSTANCES" in warning and warning in said
    assert f"{smooth:.3g}" in warning and "threshold_foreground 0.99" in warning
    assert status(out)["summary"]["n_instances"] == 0
    assert pd.read_csv(out / "TS_01_instance_regions.csv").empty
    assert pd.read_csv(out / "TS_01_particles.csv").empty
    assert not instances_in(out).any()


def test_no_centre_is_said_loudly(predict: Run, tmp_path: Path) -> None:
    network = {"distance_type": 0, "min_center_distance": 50, "max_center_distance": 60}
    assert predict(network=network, save_raw_predictions=True)[0] == 0
    out = tmp_path / "out"
    maps = maps_in(out)
    inside = gaussian_filter(maps["foreground"], 0.5, mode="nearest") >= 0.5
    distances = gaussian_filter(maps["distances"], 0.5, mode="nearest")
    [warning] = status(out)["warnings"]
    assert f"NO INSTANCES: {inside.sum()} voxels are foreground" in warning
    assert f"{distances[inside].max():.3g}" in warning
    assert "min_center_distance 50" in warning


@pytest.mark.parametrize("distance_type", [0, 1, 2])
def test_the_reasons_do_not_depend_on_the_slabs(
    distance_type: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    foreground, distances = random.random((2, 40, 12, 10), dtype=np.float32)
    foreground[8:30, 3:9, 2:8] += 1
    settings = SeparationSettings(0.9, distance_type, 50, 60)
    whole = explain_empty(foreground, distances, settings)
    monkeypatch.setattr(preprocessing, "SLAB_VOXELS", 360)
    assert explain_empty(foreground, distances, settings) == whole
    inside = gaussian_filter(foreground, 0.5, mode="nearest") >= 0.9
    euclidean = gaussian_filter(
        np.minimum(edt.edt(inside, black_border=False), 5), 0.5, mode="nearest"
    )
    smooth = gaussian_filter(distances, 0.5, mode="nearest")
    height = [smooth, (smooth + euclidean) / 2, euclidean][distance_type]
    assert f"{inside.sum()} voxels" in whole and f"{height[inside].max():.3g}," in whole


def test_a_missing_solver_is_noticed_before_anything_is_computed(
    predict: Run, computed: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "elf.segmentation.multicut", None)
    code, said = predict(network={"postprocessing": True})
    assert code == 2 and not computed
    assert "python-elf" in said and "postprocessing: False" in said
    assert status(tmp_path / "out")["state"] == "failed"
    assert predict(network={"postprocessing": False})[0] == 0


# ---- files ---------------------------------------------------------------------------------------


def ids(highest: int) -> np.ndarray:
    volume = np.arange(24, dtype=np.uint32).reshape(2, 3, 4)
    volume[1, 2, 3] = highest
    return volume


def test_formats(tmp_path: Path) -> None:
    """Ids are exact in every format, and no file of another format stays from before."""
    for output_format, suffixes in (
        ("both", {".h5", ".mrc"}),
        ("mrc", {".mrc"}),
        ("h5", {".h5"}),
    ):
        for highest, mode in ((65535, 6), (65536, 2), (2**24, 2)):
            files = InstanceFiles(tmp_path, "TS_01", HEADER, output_format)
            outputs, warnings = files.write(ids(highest))
            assert {path.suffix for path in tmp_path.iterdir()} == suffixes
            assert {Path(output.file.path).suffix for output in outputs} == suffixes
            assert not warnings
            if ".mrc" in suffixes:
                header = read_header(tmp_path / "TS_01_instance_preds.mrc")
                assert (header.mode, header.voxel_size) == (mode, HEADER.voxel_size)
                written = mrcfile.read(tmp_path / "TS_01_instance_preds.mrc")
                assert np.array_equal(written.astype(np.uint32), ids(highest))
            if ".h5" in suffixes:
                with h5py.File(tmp_path / "TS_01_instance_preds.h5") as file:
                    assert np.array_equal(file["instances"][()], ids(highest))


@pytest.mark.parametrize("output_format", ["mrc", "both"])
def test_ids_too_large_for_mrc(output_format: str, tmp_path: Path) -> None:
    write_mrc(tmp_path / "TS_01_instance_preds.mrc", ids(30), voxel_size=1.0)
    files = InstanceFiles(tmp_path, "TS_01", HEADER, output_format)
    outputs, [warning] = files.write(ids(2**24 + 1))
    assert "NO MRC WRITTEN" in warning and str(2**24 + 1) in warning
    assert [Path(output.file.path).name for output in outputs] == ["TS_01_instance_preds.h5"]
    assert not (tmp_path / "TS_01_instance_preds.mrc").exists()


@pytest.mark.parametrize("output_format", ["h5", "mrc", "both"])
def test_readers_find_every_format(
    output_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_files, "MAX_ID_UINT16", 22)  # so that the MRC has float32
    volume = ids(24)
    InstanceFiles(tmp_path, "TS_01", HEADER, output_format).write(volume)
    for path in find_instance_files(tmp_path, "TS_01"):
        instances = read_instances(path)
        assert instances.dtype.kind == "u"
        assert np.array_equal(instances, volume)


def test_what_is_no_instance_segmentation(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"TS_01_instance_preds.h5, TS_01_instance_preds.mrc"):
        find_instance_files(tmp_path, "TS_01")
    path = tmp_path / "TS_01_instance_preds.h5"
    for wrong, message in (
        (np.ones((2, 2, 2), np.float32), "float32"),
        (np.ones((2, 2), np.uint8), r"\(2, 2\)"),
        (np.full((2, 2, 2), -1), "from -1"),
        (np.full((2, 2, 2), 9), "to 9"),
    ):
        write_datasets(path, {"instances": wrong})
        with pytest.raises(MaskError, match=message):
            read_instances(path)
