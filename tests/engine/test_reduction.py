from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from cryosiam_engine.clustering import reduction
from cryosiam_engine.clustering.reduction import pca_coordinates, umap_coordinates
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness


def golden_map(golden: Path, case: str, method: str) -> tuple[NDArray, NDArray]:
    """The embeddings of the case's tomogram (n, dim), and the original's places (n, 2)."""
    folder = golden / case / "out"
    with h5py.File(folder / "TS_a_embeds.h5") as file:
        embeddings = file["embeddings"][()].T.astype(np.float32)
    places = pd.read_csv(folder / "vis" / f"TS_a_embeds_{method}_data.csv")[["x", "y"]].to_numpy()
    return embeddings, places


def test_pca_is_the_originals_up_to_sign(golden: Path) -> None:
    embeddings, theirs = golden_map(golden, "19_visualize_pca", "pca")
    ours = pca_coordinates(embeddings, 3)[:, :2]
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours * signs, theirs, atol=1e-4)


@given(st.integers(2, 60), st.integers(2, 20), st.integers(1, 5), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_pca_is_scikit_learns_up_to_sign(n: int, dim: int, wanted: int, seed: int) -> None:
    scales = np.geomspace(1, 1e-3, dim)  # different variances, so that the order is one
    points = (np.random.default_rng(seed).normal(size=(n, dim)) * scales).astype(np.float32)
    ours = pca_coordinates(points, wanted)
    assert ours.shape == (n, wanted)
    theirs = PCA(min(wanted, n, dim)).fit_transform(points.astype(np.float64))
    shown = theirs.shape[1]
    np.testing.assert_allclose(np.abs(ours[:, :shown]), np.abs(theirs), atol=2e-5)
    np.testing.assert_allclose(ours[:, shown:], 0, atol=1e-5)


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    whole = pca_coordinates(points, 3)
    monkeypatch.setattr(reduction, "_ROWS", 7)
    np.testing.assert_allclose(pca_coordinates(points, 3), whole, atol=1e-6)


def test_the_sign_does_not_depend_on_the_order_of_rows() -> None:
    points = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    order = np.random.default_rng(1).permutation(50)
    np.testing.assert_allclose(
        pca_coordinates(points[order], 3), pca_coordinates(points, 3)[order], atol=1e-5
    )


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("wanted", [2, 3])
def test_a_few_points_have_places_too(n: int, wanted: int) -> None:
    points = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    for places in (pca_coordinates(points, wanted), umap_coordinates(points, n_components=wanted)):
        assert places.shape == (n, wanted)
        assert np.isfinite(places).all()


@pytest.mark.parametrize("n", [7, 9, 11])
def test_fewer_points_than_neighbours_are_mapped(n: int) -> None:
    points = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    places = umap_coordinates(points, n_components=3)
    assert places.shape == (n, 3)
    assert np.isfinite(places).all()


def test_umap_keeps_neighbours_as_the_originals_does(golden: Path) -> None:
    embeddings, theirs = golden_map(golden, "19_visualize_umap", "umap")
    first, second = umap_coordinates(embeddings), umap_coordinates(embeddings)
    np.testing.assert_array_equal(first, second)
    kept = trustworthiness(embeddings, first, n_neighbors=5)
    assert kept >= trustworthiness(embeddings, theirs, n_neighbors=5) - 0.03


def test_many_points_are_reduced_first(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.zeros((90, 80), np.float32)
    points[:, :5] = np.random.default_rng(0).normal(size=(90, 5))  # 50 components hold all of it
    points[:, 5:] = 1e-6 * np.random.default_rng(1).normal(size=(90, 75))
    asked: list[int] = []

    def spy(embeddings: NDArray[np.float32], n_components: int) -> NDArray[np.float32]:
        asked.append(n_components)
        return pca_coordinates(embeddings, n_components)

    monkeypatch.setattr(reduction, "UMAP_FULL_LIMIT", 10)
    monkeypatch.setattr(reduction, "pca_coordinates", spy)
    places = umap_coordinates(points)
    assert asked == [50]
    assert trustworthiness(points, places, n_neighbors=5) > 0.75
    umap_coordinates(points, metric="cosine")  # of which centred components know nothing
    assert asked == [50]
