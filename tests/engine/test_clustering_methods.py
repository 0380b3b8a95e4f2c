from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from cryosiam_engine.clustering.density import hdbscan_clusters
from cryosiam_engine.clustering.kmeans import kmeans_clusters
from cryosiam_engine.clustering.neighbour_graph import NeighbourGraph
from cryosiam_engine.clustering.representatives import distances_to_centers, ranks
from cryosiam_engine.clustering.spectral import estimate_clusters, spectral_clusters
from cryosiam_engine.errors import ConfigurationError
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score


def species(
    n_species: int = 4, each: int = 60, dim: int = 64, spread: float = 0.1, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings of unit length around `n_species` random directions, and their species."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(n_species), each))
    centres = rng.normal(size=(n_species, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    points = centres[truth] + spread * rng.normal(size=(len(truth), dim)) / np.sqrt(dim)
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), truth


def chain(n: int, seed: int = 0) -> NDArray[np.float32]:
    """Points along a bent line: one connected graph whose first eigenvalues are all small."""
    jitter = np.random.default_rng(seed).uniform(-1, 1, n) / n  # keeps eigenvalues apart
    t = np.linspace(0, 3, n) + jitter
    return np.stack([t, np.sin(2 * t), np.cos(3 * t)], axis=1).astype(np.float32)


METHODS = {
    "kmeans": lambda x: kmeans_clusters(x, 4),
    "spectral": lambda x: spectral_clusters(x, 4),
    "spectral_estimate": lambda x: spectral_clusters(x, 8, estimate=True),
    "hdbscan": lambda x: hdbscan_clusters(x, 15),
}


def golden_case(golden: Path, case: str, kind: str) -> tuple[NDArray, NDArray]:
    with h5py.File(golden / case / "out" / "embeddings.h5") as file:
        embeddings = file["embeddings"][()].astype(np.float32)
    with h5py.File(golden / case / "out" / f"{kind}_clusters.h5") as file:
        return embeddings, file["clusters"][()]


@pytest.mark.parametrize("method", METHODS)
def test_well_separated_species_are_found(method: str) -> None:
    embeddings, truth = species()
    clusters = METHODS[method](embeddings).clusters
    assert adjusted_rand_score(truth, clusters) == 1.0
    assert set(clusters) == {1, 2, 3, 4}


@pytest.mark.parametrize("method", METHODS)
def test_the_same_input_gives_the_same_clusters(method: str) -> None:
    embeddings, _ = species(spread=1.0)  # no clear answer
    first = METHODS[method](embeddings).clusters
    np.random.default_rng().random(7)
    np.random.seed(99)  # noqa: NPY002  nothing may depend on the global state
    np.testing.assert_array_equal(METHODS[method](embeddings).clusters, first)


def test_kmeans_is_the_originals(golden: Path) -> None:
    embeddings, theirs = golden_case(golden, "17_kmeans", "kmeans")
    ours = kmeans_clusters(embeddings, 4)
    assert adjusted_rand_score(theirs, ours.clusters) >= 0.99
    with h5py.File(golden / "17_kmeans" / "out" / "kmeans_clusters.h5") as file:
        np.testing.assert_allclose(ours.centers, file["centers"][()], atol=1e-5)


def test_spectral_is_the_originals(golden: Path) -> None:
    embeddings, theirs = golden_case(golden, "18_spectral", "spectral")
    assert adjusted_rand_score(theirs, spectral_clusters(embeddings, 4).clusters) >= 0.99


def test_the_estimated_number_is_the_originals(golden: Path) -> None:
    embeddings, theirs = golden_case(golden, "18b_spectral_estimate", "spectral")
    ours = spectral_clusters(embeddings, 8, estimate=True).clusters
    assert ours.max() == theirs.max()
    assert adjusted_rand_score(theirs, ours) >= 0.99


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_spectral_agrees_with_scikit_learn(spread: float) -> None:
    embeddings, _ = species(spread=spread, each=80, dim=8)
    reference = SpectralClustering(4, affinity="nearest_neighbors", random_state=0)
    ours = spectral_clusters(embeddings, 4).clusters
    assert adjusted_rand_score(reference.fit_predict(embeddings), ours) >= 0.98


@pytest.mark.parametrize("parts", [1, 3])
def test_many_particles_have_the_same_eigenvectors(
    parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.concatenate([chain(400, seed) + 100 * seed for seed in range(parts)])
    graph = NeighbourGraph.of(points)
    assert graph.n_components == parts
    values, vectors = graph.smallest(7, seed=0)
    monkeypatch.setattr("cryosiam_engine.clustering.neighbour_graph._DENSE_LIMIT", 0)
    many_values, many_vectors = graph.smallest(7, seed=0)
    np.testing.assert_allclose(many_values, values, atol=1e-8)
    # One eigenspace may have many bases: the projections onto the whole must agree.
    np.testing.assert_allclose(many_vectors.T @ many_vectors, np.eye(7), atol=1e-8)
    np.testing.assert_allclose(np.abs(np.linalg.svd(many_vectors.T @ vectors)[1]), 1, atol=1e-5)


@pytest.mark.parametrize("n_species", [2, 3, 5])
def test_the_estimate_counts_the_parts(n_species: int) -> None:
    graph = NeighbourGraph.of(species(n_species)[0])
    assert estimate_clusters(graph, 9) == n_species


def test_more_parts_than_clusters_are_joined() -> None:
    far, truth = species(4, each=40)
    pairs = np.where(truth % 2, 10, -10)[:, None].astype(np.float32)
    found = spectral_clusters(np.hstack([far, pairs]), 2)
    assert adjusted_rand_score(truth % 2, found.clusters) == 1.0
    assert "4 groups" in found.warnings[0]


def test_fewer_particles_than_neighbours_are_told() -> None:
    embeddings, _ = species(2, each=3)
    found = spectral_clusters(embeddings, 2)
    assert "Only 6 particles" in found.warnings[0]
    assert set(found.clusters) == {1, 2}


@pytest.mark.parametrize("n", [2, 3, 9, 10, 11])
def test_equal_particles_do_no_harm(n: int) -> None:
    same = np.ones((n, 5), np.float32)
    assert "Only 1 of 2" in kmeans_clusters(same, 2).warnings[0]
    assert len(spectral_clusters(same, 2).clusters) == n
    assert len(hdbscan_clusters(same, 2).clusters) == n


@pytest.mark.parametrize("method", METHODS)
def test_too_few_particles_is_an_error_with_a_remedy(method: str) -> None:
    with pytest.raises(ConfigurationError, match=r"There are 3 particles.*Lower"):
        METHODS[method](np.ones((3, 4), np.float32))


def test_hdbscan_leaves_out_what_lies_between() -> None:
    embeddings, truth = species(3, each=50, dim=4, spread=0.05)
    rng = np.random.default_rng(5)
    stray = 30 * rng.normal(size=(10, 4)).astype(np.float32)
    clusters = hdbscan_clusters(np.concatenate([embeddings, stray]), 15).clusters
    assert not clusters[-10:].any()
    assert adjusted_rand_score(truth, clusters[:-10]) == 1.0


def test_hdbscan_without_any_group_says_so() -> None:
    scattered = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    found = hdbscan_clusters(scattered, 38)
    assert not found.clusters.any()
    assert "NO CLUSTERS" in found.warnings[0]


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.integers(0, 2**32 - 1),
)
def test_ranks_order_each_cluster_by_distance(labels: list[int], seed: int) -> None:
    clusters = np.array(labels, np.int32)
    points = np.random.default_rng(seed).normal(size=(len(labels), 3)).astype(np.float32)
    distances = distances_to_centers(points, clusters)
    order = ranks(clusters, distances)
    for number in np.unique(clusters):
        members = clusters == number
        if number == 0:
            assert np.isnan(distances[members]).all()
            assert not order[members].any()
            continue
        expected = np.linalg.norm(points[members] - points[members].mean(axis=0), axis=1)
        np.testing.assert_allclose(distances[members], expected, atol=1e-5)
        assert sorted(order[members]) == list(range(1, members.sum() + 1))
        assert (np.diff(distances[members][np.argsort(order[members])]) >= 0).all()
