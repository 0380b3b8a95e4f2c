"""Time and memory of clustering and mapping many embeddings: prints a Markdown table.

    python benchmarks/clustering_scale.py [--particles 100000] [--steps k-means UMAP ...]

Each step runs in a process of its own, so that its peak memory is its own. The embeddings are
20 species of unit vectors with noise; the last column says how well they were told apart
(adjusted Rand index, 1 is perfect), or how much of the neighbourhoods a map keeps.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N_SPECIES = 20
STEPS = ("k-means", "spectral", "spectral, estimated", "HDBSCAN", "PCA", "UMAP")


def make_embeddings(n: int, dim: int, path: Path) -> None:
    """Write `embeddings` `(n, dim)` and the true `species`.

    A species varies along six directions of its own, plus noise in all: particles that look
    different are not scattered evenly around one direction. One in fifty is half of the next
    species, so that no species is on its own.
    """
    rng = np.random.default_rng(0)
    species = rng.integers(0, N_SPECIES, n)
    embeddings = np.empty((n, dim), np.float32)
    for one in range(N_SPECIES):
        members = np.flatnonzero(species == one)
        basis = rng.normal(size=(7, dim)).astype(np.float32) / np.sqrt(dim)
        weights = rng.normal(scale=0.35, size=(len(members), 6)).astype(np.float32)
        noise = rng.normal(size=(len(members), dim)).astype(np.float32) * 0.3 / np.sqrt(dim)
        embeddings[members] = basis[0] + weights @ basis[1:] + noise
    halves = rng.choice(n, n // 50, replace=False)
    following = np.array(
        [rng.choice(np.flatnonzero(species == (s + 1) % N_SPECIES)) for s in species[halves]]
    )
    embeddings[halves] = (embeddings[halves] + embeddings[following]) / 2
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    np.savez(path, embeddings=embeddings, species=species)


def run_step(step: str, path: Path) -> None:
    """Run one step and print its row of the table."""
    from cryosiam_engine.clustering.density import hdbscan_clusters
    from cryosiam_engine.clustering.kmeans import kmeans_clusters
    from cryosiam_engine.clustering.reduction import pca_coordinates, umap_coordinates
    from cryosiam_engine.clustering.spectral import spectral_clusters
    from sklearn.metrics import adjusted_rand_score

    with np.load(path) as file:
        embeddings, species = file["embeddings"], file["species"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    result = {
        "k-means": lambda: kmeans_clusters(embeddings, N_SPECIES),
        "spectral": lambda: spectral_clusters(embeddings, N_SPECIES),
        "spectral, estimated": lambda: spectral_clusters(embeddings, 30, estimate=True),
        "HDBSCAN": lambda: hdbscan_clusters(embeddings, 50, min_samples=10),
        "PCA": lambda: pca_coordinates(embeddings, 2),
        "UMAP": lambda: umap_coordinates(embeddings),
    }[step]()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if isinstance(result, np.ndarray):
        quality = f"{neighbours_of_same_species(result, species):.3f} of neighbours same species"
    else:
        found = len(np.unique(result.clusters[result.clusters > 0]))
        rand = adjusted_rand_score(species, result.clusters)
        quality = f"Rand {rand:.3f}, {found} clusters, {np.mean(result.clusters == 0):.1%} in none"
    n, dim = embeddings.shape
    print(
        f"| {step} | {n:,} × {dim:,} | {seconds:.0f} | {peak / 1e6:.1f} "
        f"({before / 1e6:.1f} before) | {quality} |",
        flush=True,
    )


def neighbours_of_same_species(places: np.ndarray, species: np.ndarray) -> float:
    """Share of the ten nearest in the map that are of a particle's own species."""
    from scipy.spatial import cKDTree

    sample = np.random.default_rng(0).choice(len(places), min(5000, len(places)), replace=False)
    _, nearest = cKDTree(places).query(places[sample], 11)
    return float(np.mean(species[nearest[:, 1:]] == species[sample][:, None]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.data:
        run_step(args.steps[0], args.data)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores\n")
    print("| step | particles × numbers | seconds | peak GB | result |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "embeddings.npz"
        make_embeddings(args.particles, args.dim, data)
        for step in args.steps:
            subprocess.run(
                [sys.executable, __file__, "--data", str(data), "--steps", step], check=True
            )


if __name__ == "__main__":
    main()
