from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import starfile
import yaml
from cryosiam_engine.clustering import MapRequest
from cryosiam_engine.clustering.command import run
from cryosiam_engine.clustering.concatenated import concatenate, is_current
from cryosiam_engine.clustering.sources import find_sources, read_particles_of
from cryosiam_engine.config import ClusteringConfig, KmeansConfig, load_config
from cryosiam_engine.errors import ConfigurationError, MaskError
from cryosiam_engine.run import RunReport
from sklearn.metrics import adjusted_rand_score

COMMANDS = {
    "kmeans": "simsiam_embeddings_kmeans_clustering",
    "spectral": "simsiam_embeddings_spectral_clustering",
    "hdbscan": "simsiam_embeddings_hdbscan_clustering",
}
DIM = 32


def write_particles(folder: Path, stem: str, species: np.ndarray, dim: int = DIM) -> None:
    """Write one tomogram's files as the embedding commands do; labels have gaps."""
    rng = np.random.default_rng(sum(map(ord, stem)))
    centres = 10 * np.eye(dim, dtype=np.float32)[:4]
    embeddings = centres[species] + 0.1 * rng.normal(size=(len(species), dim)).astype(np.float32)
    labels = np.arange(len(species)) * 3 + 2
    with h5py.File(folder / f"{stem}_embeds.h5", "w") as file:
        file["embeddings"] = embeddings.T.astype(np.float64)
    with h5py.File(folder / f"{stem}_instance_labels.h5", "w") as file:
        file["labels"] = labels.astype(np.int64)
    table = pd.DataFrame({"label": labels, "area": 50.0 + labels})
    for axis in range(3):
        table[f"centroid-{axis}"] = rng.uniform(0, 100, len(labels))
    table.to_csv(folder / f"{stem}_instance_regions.csv", index=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tomograms of four species, one of them empty, and one name with dots."""
    rng = np.random.default_rng(0)
    path = tmp_path / "embeddings"
    path.mkdir()
    write_particles(path, "TS_01", rng.permutation(np.arange(60) % 4))
    write_particles(path, "TS_02", np.zeros(0, int))
    write_particles(path, "TS_56_6.80Apx", rng.permutation(np.arange(80) % 4))
    return path


def truth_of(folder: Path) -> np.ndarray:
    """The species of all particles, in the order of the rows."""
    parts = []
    for path in sorted(folder.glob("*_embeds.h5")):
        with h5py.File(path) as file:
            parts.append(file["embeddings"][:4].argmax(axis=0))
    return np.concatenate(parts)


def config_of(folder: Path, kind: str, **changes: Any) -> ClusteringConfig:
    section = {"min_cluster_size": 15} if kind == "hdbscan" else {"num_clusters": 4}
    values: dict[str, Any] = {
        "prediction_folder": str(folder),
        f"clustering_{kind}": {**section, **changes.pop("section", {})},
        **changes,
    }
    path = folder.parent / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(values))
    config = load_config(path, COMMANDS[kind])
    assert isinstance(config, ClusteringConfig)
    return config


def status_of(folder: Path, kind: str) -> dict[str, Any]:
    path = folder / "status" / COMMANDS[kind] / "all.json"
    status: dict[str, Any] = json.loads(path.read_text())
    return status


def dataset(path: Path, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[name][()])


@pytest.mark.parametrize("kind", COMMANDS)
def test_species_are_found_and_everything_is_written(folder: Path, kind: str) -> None:
    assert run(config_of(folder, kind)) == RunReport(done=["all"])
    first = 0 if kind == "kmeans" else 1
    table = pd.read_csv(folder / f"{kind}_clusters.csv")
    clusters = dataset(folder / f"{kind}_clusters.h5", "clusters")
    assert clusters.dtype == np.int32
    assert adjusted_rand_score(truth_of(folder), clusters) == 1.0
    assert set(clusters) == set(range(first, first + 4))
    assert set(table["cluster"]) == {1, 2, 3, 4}
    np.testing.assert_array_equal(table["cluster"], clusters + 1 - first)
    start = 0
    for stem, count in (("TS_01", 60), ("TS_02", 0), ("TS_56_6.80Apx", 80)):
        rows = slice(start, start + count)
        part = dataset(folder / f"{stem}_clusters_{kind}.h5", "predictions")
        np.testing.assert_array_equal(part, clusters[rows])
        name = f"{stem}_instance_regions_{kind}_clustered"
        csv = pd.read_csv(folder / f"{name}.csv")
        given = pd.read_csv(folder / f"{stem}_instance_regions.csv")
        pd.testing.assert_frame_equal(csv[list(given.columns)], given)
        np.testing.assert_array_equal(csv["semantic_class"], part)
        if count:
            star = starfile.read(folder / f"{name}.star")
            np.testing.assert_array_equal(star["rlnClass"], part)
            np.testing.assert_allclose(star["rlnCoordinateX"], given["centroid-2"], atol=1e-5)
            np.testing.assert_array_equal(table["label"][rows], given["label"])
            np.testing.assert_array_equal(table["area"][rows], given["area"])
            assert set(table["tomo"][rows]) == {stem}
        start += count
    status = status_of(folder, kind)
    assert status["state"] == "done"
    assert status["summary"]["particles"] == 140
    assert sum(status["summary"]["particles_per_cluster"].values()) == 140
    assert all(Path(output["file"]["path"]).is_file() for output in status["outputs"])


def test_the_table_points_into_the_concatenated_embeddings(folder: Path) -> None:
    run(config_of(folder, "kmeans"))
    table = pd.read_csv(folder / "kmeans_clusters.csv")
    embeddings = dataset(folder / "embeddings.h5", "embeddings")
    assert embeddings.dtype == np.float64
    np.testing.assert_array_equal(
        dataset(folder / "embeddings.h5", "number_of_samples"), [60, 0, 80]
    )
    np.testing.assert_array_equal(table["row"], np.arange(140))
    for cluster, members in table.groupby("cluster"):
        own = embeddings[members["row"]]
        distances = np.linalg.norm(own - own.mean(axis=0), axis=1)
        np.testing.assert_allclose(members["distance_to_center"], distances, atol=1e-5)
        nearest = members.loc[members["rank"] == 1, "row"]
        assert list(nearest) == [members["row"].iloc[distances.argmin()]], cluster
    np.testing.assert_array_equal(
        embeddings[60:], dataset(folder / "TS_56_6.80Apx_embeds.h5", "embeddings").T
    )


@pytest.mark.parametrize("case", ["17_kmeans", "18_spectral", "18b_spectral_estimate"])
def test_files_are_the_originals(golden: Path, tmp_path: Path, case: str) -> None:
    kind = case.split("_")[1]
    theirs, ours = golden / case / "out", tmp_path / "out"
    ours.mkdir()
    for path in theirs.iterdir():
        if path.is_file() and "cluster" not in path.name and path.name != "embeddings.h5":
            shutil.copy(path, ours)
    values = yaml.safe_load((golden / case / "config.yaml").read_text())
    values["prediction_folder"] = str(ours)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    config = load_config(tmp_path / "config.yaml", COMMANDS[kind])
    assert isinstance(config, ClusteringConfig)
    assert run(config).failed == {}
    expected = {path.name for path in theirs.iterdir() if path.is_file()}
    if kind == "spectral":  # its STAR files have the name of k-means in the original
        expected = {
            name.replace("_kmeans_clustered.star", "_spectral_clustered.star") for name in expected
        }
    written = {path.name for path in ours.iterdir() if path.is_file()}
    assert written - {f"{kind}_clusters.csv"} == expected
    compare_clusters(ours, theirs, kind)


def compare_clusters(ours: Path, theirs: Path, kind: str) -> None:
    np.testing.assert_array_equal(
        dataset(ours / "embeddings.h5", "embeddings"),
        dataset(theirs / "embeddings.h5", "embeddings"),
    )
    mine, other = (dataset(f / f"{kind}_clusters.h5", "clusters") for f in (ours, theirs))
    assert mine.dtype == other.dtype
    assert set(mine) == set(other)
    assert adjusted_rand_score(other, mine) >= 0.99
    for path in theirs.glob("*_clustered.csv"):
        one, two = pd.read_csv(ours / path.name), pd.read_csv(path)
        assert list(one.columns) == list(two.columns)
        pd.testing.assert_frame_equal(
            one.drop(columns="semantic_class"), two.drop(columns="semantic_class")
        )
        star = ours / path.with_suffix(".star").name
        given = theirs / star.name.replace("spectral_clustered.star", "kmeans_clustered.star")
        assert list(starfile.read(star).columns) == list(starfile.read(given).columns)
    for path in theirs.glob("*_umap_data.csv"):
        one, two = pd.read_csv(ours / path.name), pd.read_csv(path)
        assert list(one.columns) == list(two.columns)
        assert list(one["labels"]) == list(two["labels"])
        np.testing.assert_array_equal(one["class"], mine)


def test_finished_and_unchanged_is_not_done_again(folder: Path) -> None:
    config = config_of(folder, "kmeans")
    run(config)
    before = (folder / "kmeans_clusters.h5").stat().st_mtime_ns
    assert run(config) == RunReport(skipped=["all"])
    assert (folder / "kmeans_clusters.h5").stat().st_mtime_ns == before
    assert run(config, overwrite=True).done == ["all"]
    other = config_of(folder, "kmeans", section={"num_clusters": 3})
    assert run(other).done == ["all"]


def test_a_changed_source_is_noticed(folder: Path) -> None:
    config = config_of(folder, "kmeans")
    run(config)
    write_particles(folder, "TS_02", np.arange(20) % 4)
    assert run(config).done == ["all"]
    assert len(pd.read_csv(folder / "kmeans_clusters.csv")) == 160
    assert len(dataset(folder / "embeddings.h5", "embeddings")) == 160


def test_concatenated_embeddings_of_another_list_are_replaced(folder: Path) -> None:
    run(config_of(folder, "kmeans"))
    some = config_of(folder, "spectral", clustering_files=["TS_56_6.80Apx"])
    run(some)
    assert len(dataset(folder / "embeddings.h5", "embeddings")) == 80
    # The rows of the first clustering's table are in it no more, so it is not finished.
    assert run(config_of(folder, "kmeans")).done == ["all"]


def test_concatenated_embeddings_are_kept_while_current(folder: Path) -> None:
    particles = read_particles_of(find_sources(folder, None, ".mrc"))
    path = concatenate(folder, particles)
    before = path.stat().st_mtime_ns
    assert concatenate(folder, particles).stat().st_mtime_ns == before
    write_particles(folder, "TS_01", np.arange(60) % 4)
    assert not is_current(path, particles.sources)


def test_the_originals_own_concatenation_is_not_trusted(folder: Path) -> None:
    with h5py.File(folder / "embeddings.h5", "w") as file:
        file["embeddings"] = np.zeros((3, DIM))
        file["number_of_samples"] = np.array([3])
    run(config_of(folder, "kmeans"))
    assert len(dataset(folder / "embeddings.h5", "embeddings")) == 140


def test_many_sources_are_remembered(folder: Path) -> None:
    particles = read_particles_of(find_sources(folder, ["TS_01"], ".mrc"))
    many = replace(particles, sources=particles.sources * 1000, regions=particles.regions * 1000)
    many.embeddings = np.zeros((60_000, DIM), np.float32)
    assert is_current(concatenate(folder, many), many.sources)


@pytest.mark.parametrize("name", ["TS_01", "TS_01.mrc", "TS_01_embeds.h5", "tomograms/TS_01.mrc"])
def test_a_tomogram_is_named_by_its_stem_or_file(folder: Path, name: str) -> None:
    assert [source.stem for source in find_sources(folder, [name, name], ".mrc")] == ["TS_01"]


def test_a_stem_with_dots_is_not_cut(folder: Path) -> None:
    for name in ("TS_56_6.80Apx", "TS_56_6.80Apx.mrc"):
        assert find_sources(folder, [name], ".mrc")[0].stem == "TS_56_6.80Apx"


def test_sources_are_sorted_by_name(folder: Path) -> None:
    (folder / ".TS_09_embeds.h5").write_bytes(b"")
    assert [source.stem for source in find_sources(folder, None, ".mrc")] == [
        "TS_01",
        "TS_02",
        "TS_56_6.80Apx",
    ]


def test_a_missing_tomogram_fails_with_a_remedy(folder: Path) -> None:
    report = run(config_of(folder, "kmeans", clustering_files=["TS_01", "TS_77"]))
    assert "TS_77" in report.failed["all"]
    status = status_of(folder, "kmeans")
    assert status["state"] == "failed"
    assert "list of files" in status["error"]["remedy"]


def test_an_empty_folder_fails_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="simsiam_embeddings_predict first"):
        find_sources(tmp_path, None, ".mrc")


@pytest.mark.parametrize("kind", COMMANDS)
def test_no_particles_at_all_is_an_error(folder: Path, kind: str) -> None:
    report = run(config_of(folder, kind, clustering_files=["TS_02"]))
    assert "no particles to cluster" in report.failed["all"]


def test_files_of_different_runs_are_refused(folder: Path) -> None:
    table = pd.read_csv(folder / "TS_01_instance_regions.csv")
    table[::-1].to_csv(folder / "TS_01_instance_regions.csv", index=False)
    with pytest.raises(MaskError, match=r"TS_01.*not of the same particles"):
        read_particles_of(find_sources(folder, None, ".mrc"))


def test_embeddings_of_different_models_are_refused(folder: Path) -> None:
    write_particles(folder, "TS_03", np.arange(8) % 4, dim=DIM + 1)
    with pytest.raises(ConfigurationError, match=r"32 numbers each, those of TS_03 33"):
        read_particles_of(find_sources(folder, None, ".mrc"))


def test_values_that_are_no_numbers_are_refused(folder: Path) -> None:
    with h5py.File(folder / "TS_01_embeds.h5", "r+") as file:
        file["embeddings"][3, 5] = np.nan
    with pytest.raises(MaskError, match=r"TS_01_embeds\.h5 has values that are no numbers"):
        read_particles_of(find_sources(folder, None, ".mrc"))


@pytest.mark.parametrize("ending", ["_embeds.h5", "_instance_labels.h5", "_instance_regions.csv"])
def test_a_damaged_file_is_named(folder: Path, ending: str) -> None:
    (folder / f"TS_01{ending}").write_bytes(b"\x89HDF\r\n\x1a\n nothing")
    with pytest.raises(MaskError, match=f"TS_01{ending}"):
        read_particles_of(find_sources(folder, None, ".mrc"))


@pytest.mark.parametrize("ending", ["_instance_labels.h5", "_instance_regions.csv"])
def test_a_missing_file_is_named(folder: Path, ending: str) -> None:
    (folder / f"TS_01{ending}").unlink()
    report = run(config_of(folder, "kmeans"))
    assert f"TS_01{ending} does not exist" in report.failed["all"]


def test_a_column_that_some_tomograms_lack_is_empty_there(folder: Path) -> None:
    path = folder / "TS_01_instance_regions.csv"
    pd.read_csv(path).assign(score=0.75).to_csv(path, index=False)
    run(config_of(folder, "kmeans"))
    table = pd.read_csv(folder / "kmeans_clusters.csv")
    assert set(table["score"][:60]) == {0.75}
    assert table["score"][60:].isna().all()


def test_the_map_is_written_and_goes_with_its_clusters(folder: Path) -> None:
    requests: list[MapRequest] = []

    def write_page(request: MapRequest) -> list[Path]:
        requests.append(request)
        request.path.write_text("page")
        return [request.path]

    visible = config_of(folder, "hdbscan", section={"visualization": True})
    run(visible, write_page=write_page)
    request = requests[0]
    assert {name: c.shape for name, c in request.coordinates.items()} == {
        "UMAP": (140, 2),
        "PCA": (140, 2),
    }
    assert request.color_by in request.table
    data = pd.read_csv(folder / "hdbscan_clusters_umap_data.csv")
    assert list(data.columns) == ["class", "x", "y", "labels"]
    assert data["labels"][0] == "TS_01.mrc_2"
    np.testing.assert_allclose(data[["x", "y"]], request.coordinates["UMAP"], rtol=1e-5)
    kinds = {output["kind"] for output in status_of(folder, "hdbscan")["outputs"]}
    assert "map" in kinds
    run(config_of(folder, "hdbscan", section={"min_cluster_size": 14}))
    assert not (folder / "hdbscan_clusters.html").exists()
    assert not (folder / "hdbscan_clusters_umap_data.csv").exists()


def test_the_seed_is_part_of_the_result(folder: Path) -> None:
    config = config_of(folder, "kmeans", clustering_seed=7)
    assert isinstance(config, KmeansConfig)
    assert config.clustering_seed == 7
    assert config.sha256() != config_of(folder, "kmeans").sha256()


@pytest.mark.parametrize(
    ("kind", "section", "message"),
    [
        ("kmeans", {"num_clusters": 0}, "num_clusters: expected a whole number of 1 or more"),
        ("spectral", {"num_clusters": 1}, "num_clusters: expected a whole number of 2 or more"),
        ("hdbscan", {"min_samples": 0}, "min_samples: expected null or a whole number of 1"),
        ("hdbscan", {"min_cluster_sizes": 9}, "Did you mean min_cluster_size"),
    ],
)
def test_wrong_values_are_explained(
    folder: Path, kind: str, section: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        config_of(folder, kind, section=section)


def test_hdbscan_needs_no_section(folder: Path) -> None:
    path = folder.parent / "bare.yaml"
    path.write_text(yaml.safe_dump({"prediction_folder": str(folder)}))
    config = load_config(path, COMMANDS["hdbscan"])
    assert isinstance(config, ClusteringConfig)
    assert run(config).done == ["all"]
