"""The command that maps all particles, and the pages with pictures from the tomograms."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.clustering import MapRequest
from cryosiam_engine.embeddings.map_pages import flat_maps, page_writer
from cryosiam_engine.status import read_status, status_folder
from cryosiam_engine.volume import write_mrc
from PIL import Image

COMMAND = "simsiam_embeddings_map"
SHAPE, EDGE = (24, 40, 40), 12


def bright_block(centre: np.ndarray, value: float) -> np.ndarray:
    volume = np.zeros(SHAPE, np.float32)
    volume[tuple(slice(c - 2, c + 3) for c in centre)] = value
    return volume


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two tomograms, in each a few particles with a bright block at their centre."""
    rng = np.random.default_rng(1)
    folder, data = tmp_path / "embeddings", tmp_path / "data"
    folder.mkdir()
    for stem, count in (("TS_01", 5), ("TS_02", 4)):
        centres = rng.integers(8, 16, (count, 3)) + np.array([0, 8, 8])
        volume = np.maximum.reduce([bright_block(c, 1) for c in centres])
        write_mrc(data / f"{stem}.mrc", volume, voxel_size=10)
        with h5py.File(folder / f"{stem}_embeds.h5", "w") as file:
            file["embeddings"] = rng.normal(size=(16, count))
        with h5py.File(folder / f"{stem}_instance_labels.h5", "w") as file:
            file["labels"] = np.arange(count) + 1
        table = pd.DataFrame({"label": np.arange(count) + 1, "area": 125.0})
        table[[f"centroid-{axis}" for axis in range(3)]] = centres.astype(float)
        table.to_csv(folder / f"{stem}_instance_regions.csv", index=False)
    values = {
        "data_folder": str(data),
        "prediction_folder": str(folder),
        "parameters": {"data": {"patch_size": [EDGE] * 3}},
    }
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def run(project: Path, *options: str) -> int:
    return main([COMMAND, "--config_file", str(project / "map.yaml"), *options])


def add_clusters(folder: Path, clusters: list[int], labels: list[int] | None = None) -> None:
    labels = labels or [1, 2, 3, 4, 5, 1, 2, 3, 4]
    tomograms = ["TS_01"] * 5 + ["TS_02"] * 4
    columns = {"row": range(9), "tomo": tomograms, "label": labels, "cluster": clusters}
    pd.DataFrame(columns).to_csv(folder / "kmeans_clusters.csv", index=False)


def content(page: Path) -> dict:
    found = re.search(r'id="map-data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def names(held: dict, category: str) -> list[str]:
    entry = held["categories"][category]
    codes = np.frombuffer(base64.b64decode(entry["codes"]), "<u4")
    return [entry["names"][code] for code in codes]


def test_the_map_has_every_particle_with_cluster_and_tomogram(project):
    folder = project / "embeddings"
    add_clusters(folder, [1, 2, 1, 2, 0, 1, 1, 2, 2])
    assert run(project) == 0
    held = content(folder / "embeddings_map.html")
    assert list(held["coordinates"]) == ["UMAP", "PCA"]
    assert next(iter(held["categories"])) == "cluster (k-means)"
    assert names(held, "cluster (k-means)") == ["1", "2", "1", "2", "none", "1", "1", "2", "2"]
    assert names(held, "tomogram") == ["TS_01"] * 5 + ["TS_02"] * 4
    table = pd.read_csv(folder / "embeddings_map.csv")
    places = np.frombuffer(base64.b64decode(held["coordinates"]["PCA"]), "<f4").reshape(-1, 2)
    np.testing.assert_allclose(table[["pca-0", "pca-1"]], places, rtol=1e-6)
    status = read_status(status_folder(folder, COMMAND), "all")
    assert status
    assert status.state == "done"
    assert {output.kind for output in status.outputs} == {"particles", "map"}


def test_a_finished_map_is_made_again_only_for_other_clusters(project):
    folder = project / "embeddings"
    page = folder / "embeddings_map.html"
    run(project)
    first = page.stat().st_mtime_ns
    run(project)
    assert page.stat().st_mtime_ns == first
    add_clusters(folder, [1] * 9)
    run(project)
    assert "cluster (k-means)" in content(page)["categories"]


def test_clusters_of_other_particles_are_refused(project, capfd):
    folder = project / "embeddings"
    add_clusters(folder, [1] * 9, labels=[9, 2, 3, 4, 5, 1, 2, 3, 4])
    assert run(project) == 1
    assert "is of other particles" in capfd.readouterr().err
    assert not (folder / "embeddings_map.html").exists()


def test_a_folder_without_embeddings_is_named(project, capfd):
    values = yaml.safe_load((project / "map.yaml").read_text())
    values["prediction_folder"] = str(project / "nowhere")
    (project / "map.yaml").write_text(yaml.safe_dump(values))
    assert run(project) == 1
    assert f"No embeddings to work on: no file in {project / 'nowhere'}" in capfd.readouterr().err


def pictures(page: Path) -> Image.Image:
    """The one sheet of pictures that a small page embeds."""
    found = re.findall(r'id="sheet-\d+">([^<]+)</script>', page.read_text("utf-8"))
    return Image.open(io.BytesIO(base64.b64decode(found[0])))


def test_pictures_show_what_lies_at_the_centre(tmp_path):
    centre = np.array([12, 20, 22])
    write_mrc(tmp_path / "TS_01.mrc", bright_block(centre, 5.0), voxel_size=10)
    table = pd.DataFrame({"tomo": ["TS_01"], "label": [1]})
    table[[f"centroid-{axis}" for axis in range(3)]] = [centre.astype(float)]
    write = page_writer(tmp_path, ".mrc", (EDGE, EDGE, EDGE))
    maps = {"PCA": np.zeros((1, 2), np.float32)}
    (page,) = write(MapRequest(tmp_path / "map.html", "one", maps, table, None))
    sheet = np.asarray(pictures(page).convert("L"), np.float32)
    size = sheet.shape[0]
    for section in range(3):
        picture = sheet[:, section * size : (section + 1) * size]
        y, x = np.nonzero(picture > 128)
        # The block's middle is the middle of the picture, to a voxel.
        assert abs(y.mean() / size - 0.5) < 1 / EDGE
        assert abs(x.mean() / size - 0.5) < 1 / EDGE


def test_a_missing_tomogram_only_costs_the_pictures(project, caplog):
    (project / "data" / "TS_02.mrc").unlink()
    assert run(project) == 0
    assert "No pictures of the particles in" in caplog.text
    assert content(project / "embeddings" / "embeddings_map.html")["rows"]


def test_three_dimensions_are_seen_along_each_axis():
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    flat = flat_maps({"UMAP": points, "PCA": points[:, :2]})
    assert list(flat) == ["UMAP 1, 2", "UMAP 1, 3", "UMAP 2, 3", "PCA"]
    np.testing.assert_array_equal(flat["UMAP 1, 3"], points[:, [0, 2]])
