from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from cryosiam_engine.config.training import DistanceMapsConfig, PatchesConfig
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.training import distance_maps, patch_files
from cryosiam_engine.training.patch_grid import patch_grid, patch_name, patches_of
from cryosiam_engine.volume import read_volume, write_mrc
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data.utils import iter_patch_slices
from training_files import ARGS, GEOMETRY, blobs, load, write_labels  # noqa: F401

SHAPE = (20, 33, 40)


@settings(deadline=None, max_examples=200)
@given(
    st.tuples(*[st.integers(1, 60)] * 3),
    st.tuples(*[st.integers(1, 40)] * 3),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9]),
)
def test_the_grid_is_monais(
    shape: tuple[int, int, int], size: tuple[int, int, int], overlap: float
) -> None:
    fitting = [min(a, b) for a, b in zip(shape, size, strict=True)]
    assume(min(round(n * (1 - overlap)) for n in fitting) > 0)
    expected = list(iter_patch_slices(shape, size, (0, 0, 0), overlap, padded=False))
    assert [box.slices for box in patch_grid(shape, size, overlap)] == expected
    assert all(box.lies_in(shape) for box in patch_grid(shape, size, overlap))


def test_an_overlap_without_a_step_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="leaves no step"):
        patch_grid((20, 20, 20), (4, 16, 16), 0.9)


def test_names_of_one_tomogram_are_not_those_of_another(tmp_path: Path) -> None:
    box = patch_grid((40, 40, 40), (16, 16, 16), 0.0)[-1]
    names = [patch_name(stem, box) for stem in ("TS_1", "TS_1_2", "TS_1_z0_y0_x0", "TS.1")]
    assert names[0] == "TS_1_z16_y16_x16"
    for name in names:
        (tmp_path / f"{name}.mrc").touch()
    (tmp_path / f"{names[0]}.mrc.txt").touch()
    assert patches_of(tmp_path, "TS_1", ".mrc") == [tmp_path / f"{names[0]}.mrc"]
    assert patches_of(tmp_path, "TS.1", ".mrc") == [tmp_path / f"{names[3]}.mrc"]
    assert patches_of(tmp_path / "absent", "TS_1", ".mrc") == []


def write_inputs(folder: Path, stem: str = "TS_1") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = blobs(SHAPE, 3)
    labels[:, :17] = 0
    volumes = {
        "labels": labels,
        "tomograms": rng.normal(size=SHAPE).astype(np.float32),
        "noisy": rng.integers(-100, 100, SHAPE).astype(np.int8),
    }
    for name, volume in volumes.items():
        write_mrc(folder / name / f"{stem}.mrc", volume, **GEOMETRY)
    return volumes


def test_the_command_with_everything(tmp_path: Path, load: Any) -> None:  # noqa: F811
    volumes = write_inputs(tmp_path)
    distance_maps.run(load(DistanceMapsConfig), ARGS)
    config = load(
        PatchesConfig,
        noisy_data_folder=str(tmp_path / "noisy"),
        parameters={
            "data": {"remove_only_background": True},
            "network": {"distance_prediction": True},
        },
    )
    assert patch_files.run(config, ARGS).exit_code == 0
    slices = [
        part
        for part in iter_patch_slices(SHAPE, (16, 16, 16), (0, 0, 0), 0.5, padded=False)
        if volumes["labels"][part].any()
    ]
    names = {f"TS_1_z{z.start}_y{y.start}_x{x.start}": (z, y, x) for z, y, x in slices}
    assert 0 < len(names) < 3 * 4
    with np.load(tmp_path / "temp" / "distances" / "TS_1.npz") as archive:
        distances = archive["data"]
    out = tmp_path / "patches"
    for kind, source in (("image", "tomograms"), ("labels", "labels"), ("noisy_image", "noisy")):
        files = sorted((out / kind).iterdir())
        assert [file.stem for file in files] == sorted(names)
        for file in files:
            patch = mrcfile.read(file)
            assert patch.dtype == np.float32
            np.testing.assert_array_equal(patch, volumes[source][names[file.stem]])
    for file in (out / "distances").iterdir():
        with np.load(file) as archive:
            np.testing.assert_array_equal(
                archive["data"], distances[(slice(None), *names[file.stem])]
            )
    assert len(list((out / "distances").iterdir())) == len(names)


def test_patches_know_where_they_were(tmp_path: Path, load: Any) -> None:  # noqa: F811
    write_inputs(tmp_path)
    assert patch_files.run(load(PatchesConfig), ARGS).exit_code == 0
    header = read_volume(tmp_path / "patches" / "image" / "TS_1_z0_y8_x16.mrc").header
    np.testing.assert_allclose(header.voxel_size, GEOMETRY["voxel_size"], rtol=1e-6)
    expected = np.add(GEOMETRY["origin"], np.multiply((16, 8, 0), GEOMETRY["voxel_size"]))
    np.testing.assert_allclose(header.origin, expected, rtol=1e-5)
    assert not (tmp_path / "patches" / "distances").exists()
    assert not (tmp_path / "patches" / "noisy_image").exists()


def test_a_second_run_leaves_no_old_patches(tmp_path: Path, load: Any) -> None:  # noqa: F811
    write_inputs(tmp_path)
    patch_files.run(load(PatchesConfig), ARGS)
    out = tmp_path / "patches"
    (out / "image" / "TS_1_2_z0_y0_x0.mrc").touch()  # another tomogram's
    first = len(list((out / "labels").iterdir()))
    assert patch_files.run(load(PatchesConfig), ARGS).skipped == ["TS_1"]
    config = load(PatchesConfig, parameters={"data": {"patch_overlap": 0.0}})
    assert patch_files.run(config, ARGS).done == ["TS_1"]
    grid = patch_grid(SHAPE, (16, 16, 16), 0.0)
    assert len(list((out / "labels").iterdir())) == len(grid) < first
    assert len(list((out / "image").iterdir())) == len(grid) + 1


def test_what_does_not_belong_together_fails_alone(tmp_path: Path, load: Any) -> None:  # noqa: F811
    write_inputs(tmp_path, "TS_1")
    write_inputs(tmp_path, "TS_2")
    write_inputs(tmp_path, "TS_3")
    write_mrc(tmp_path / "tomograms" / "TS_2.mrc", np.zeros((9, 9, 9), np.int8), voxel_size=1)
    (tmp_path / "tomograms" / "TS_3.mrc").unlink()
    report = patch_files.run(load(PatchesConfig), ARGS)
    assert report.done == ["TS_1"]
    assert "has the size (9, 9, 9)" in report.failed["TS_2"]
    assert "does not exist" in report.failed["TS_3"]
    for stem in ("TS_2", "TS_3"):
        assert patches_of(tmp_path / "patches" / "labels", stem, ".mrc") == []


def test_distances_that_are_not_there(tmp_path: Path, load: Any) -> None:  # noqa: F811
    write_inputs(tmp_path)
    network = {"network": {"distance_prediction": True}}
    report = patch_files.run(load(PatchesConfig, parameters=network), ARGS)
    assert "semantic_train_preprocess" in report.failed["TS_1"]
    with pytest.raises(ConfigurationError, match="temp_dir"):
        load(PatchesConfig, parameters=network, temp_dir=None)
    with pytest.raises(ConfigurationError, match="patch_size"):
        load(PatchesConfig, parameters={"data": {"patch_size": [64, 64]}})
