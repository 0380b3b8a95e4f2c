from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import starfile
import yaml
from cryosiam_engine.clustering import MapRequest
from cryosiam_engine.clustering.visualize import run
from cryosiam_engine.config import VisualizationConfig, load_config
from cryosiam_engine.errors import ConfigurationError
from cryosiam_engine.run import RunReport

COMMAND = "simsiam_visualize_embeddings"


def write_tomogram(folder: Path, stem: str, n: int = 12, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    with h5py.File(folder / f"{stem}_embeds.h5", "w") as file:
        file["embeddings"] = rng.normal(size=(8, n))
    table = pd.DataFrame({"centroid-0": rng.uniform(size=n), "label": np.arange(n) + 1})
    table["area"] = 2.0 ** rng.integers(3, 9, n)
    table = table.assign(**columns)
    table.to_csv(folder / f"{stem}_instance_regions.csv", index=False)
    return table


def config_of(folder: Path, visualization: dict[str, Any], **changes: Any) -> VisualizationConfig:
    values = {"prediction_folder": str(folder), "visualization": visualization, **changes}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(path, COMMAND)
    assert isinstance(config, VisualizationConfig)
    return config


PCA: dict[str, Any] = {"pca_components": 3}


@pytest.mark.parametrize("method", ["pca", "umap"])
def test_files_are_the_originals(golden: Path, tmp_path: Path, method: str) -> None:
    case = f"19_visualize_{method}"
    shutil.copytree(golden / case / "out", tmp_path / "out")
    values = yaml.safe_load((golden / case / "config.yaml").read_text())
    values["prediction_folder"] = str(tmp_path / "out")
    values["visualization"]["prediction_folder"] = str(tmp_path / "vis")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    config = load_config(tmp_path / "config.yaml", COMMAND)
    assert isinstance(config, VisualizationConfig)
    assert run(config) == RunReport(done=["TS_a"])
    name = f"TS_a_embeds_{method}_data.csv"
    assert [path.name for path in (tmp_path / "vis").iterdir()] == [name]
    ours, theirs = (pd.read_csv(f / name) for f in (tmp_path / "vis", golden / case / "out/vis"))
    assert list(ours.columns) == list(theirs.columns)
    places = ["x", "y"]
    np.testing.assert_array_equal(
        np.trunc(ours.drop(columns=[*places, "log_area"])),
        theirs.drop(columns=[*places, "log_area"]),
    )
    np.testing.assert_allclose(ours["log_area"], theirs["log_area"])
    if method == "pca":
        np.testing.assert_allclose(np.abs(ours[places]), np.abs(theirs[places]), atol=1e-4)
    regions = pd.read_csv(golden / case / "out" / "TS_a_instance_regions.csv")
    np.testing.assert_allclose(ours["centroid-0"], regions["centroid-0"])  # not cut to integers


def test_names_that_differ_after_a_dot_have_maps_of_their_own(tmp_path: Path) -> None:
    for stem in ("TS_56_6.70Apx", "TS_56_6.80Apx"):
        write_tomogram(tmp_path, stem)
    assert len(run(config_of(tmp_path, PCA)).done) == 2
    names = sorted(path.name for path in (tmp_path / "visualization").iterdir())
    assert names == [f"TS_56_6.{n}Apx_embeds_pca_data.csv" for n in (70, 80)]


@pytest.mark.parametrize(
    ("columns", "umap_3d", "colour"),
    [
        ({"semantic_class_2": 1, "semantic_class": 2}, False, "semantic_class_2"),
        ({"semantic_class": 2}, False, "semantic_class"),
        ({}, False, "log_area"),
        ({}, True, "area"),
    ],
)
def test_the_colour_is_the_first_column_of_these(
    tmp_path: Path, columns: dict[str, int], umap_3d: bool, colour: str
) -> None:
    table = write_tomogram(tmp_path, "TS_01", species="ribosome", **columns)  # text is welcome
    seen: list[MapRequest] = []

    def write_page(request: MapRequest) -> list[Path]:
        seen.append(request)
        request.path.write_text("page")
        return [request.path]

    assert run(config_of(tmp_path, {**PCA, "3d_umap": umap_3d}), write_page=write_page).failed == {}
    request = seen[0]
    assert request.color_by == colour
    assert request.path == tmp_path / "visualization" / "TS_01_embeds_pca.html"
    assert request.coordinates["PCA"].shape == (12, 3 if umap_3d else 2)
    np.testing.assert_allclose(request.table["log_area"], np.log2(table["area"]))
    assert set(request.table["species"]) == {"ribosome"}


def test_labels_are_found_by_name_in_star_files(tmp_path: Path) -> None:
    table = write_tomogram(tmp_path, "TS_01")
    renamed = table.rename(columns={"label": "rlnLabel", "area": "rlnArea"})
    starfile.write(renamed, tmp_path / "TS_01_chosen.star")
    assert run(config_of(tmp_path, {**PCA, "visualization_suffix": "chosen.star"})).failed == {}
    data = pd.read_csv(tmp_path / "visualization" / "TS_01_embeds_pca_data.csv")
    np.testing.assert_array_equal(data["label"], table["label"])
    np.testing.assert_array_equal(data["area"], table["area"])


def test_one_bad_tomogram_leaves_the_others(tmp_path: Path) -> None:
    write_tomogram(tmp_path, "TS_01")
    write_tomogram(tmp_path, "TS_02").iloc[1:].to_csv(tmp_path / "TS_02_instance_regions.csv")
    write_tomogram(tmp_path, "TS_03")
    (tmp_path / "TS_03_instance_regions.csv").unlink()
    report = run(config_of(tmp_path, PCA))
    assert report.done == ["TS_01"]
    assert "11 particles" in report.failed["TS_02"]
    assert "TS_03_instance_regions.csv does not exist" in report.failed["TS_03"]
    status = json.loads((tmp_path / "status" / COMMAND / "TS_02.json").read_text())
    assert status["state"] == "failed"


def test_no_particles_make_an_empty_map(tmp_path: Path) -> None:
    write_tomogram(tmp_path, "TS_01", n=0)
    assert run(config_of(tmp_path, {})).done == ["TS_01"]
    data = pd.read_csv(tmp_path / "visualization" / "TS_01_embeds_umap_data.csv")
    assert len(data) == 0
    assert {"label", "x", "y"} <= set(data.columns)


def test_unchanged_maps_are_not_made_again(tmp_path: Path) -> None:
    write_tomogram(tmp_path, "TS_01")
    config = config_of(tmp_path, PCA)
    run(config)
    assert run(config).skipped == ["TS_01"]
    assert run(config, overwrite=True).done == ["TS_01"]
    elsewhere = config_of(tmp_path, {**PCA, "prediction_folder": str(tmp_path / "other")})
    assert run(elsewhere).done == ["TS_01"]


def test_visualize_umap_false_writes_nothing(tmp_path: Path) -> None:
    write_tomogram(tmp_path, "TS_01")
    assert run(config_of(tmp_path, {"visualize_umap": False})) == RunReport()
    assert not (tmp_path / "visualization").exists()


def test_distance_has_a_default_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    assert config_of(tmp_path, {}).distance == "euclidean"
    with pytest.raises(ConfigurationError, match="distance: expected euclidean, cosine"):
        config_of(tmp_path, {"distance": "crow"})
