"""The original's embeddings against ours in ``reference`` tiling on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
import torch
import yaml
from cryosiam_engine.checkpoint import load_checkpoint
from cryosiam_engine.config import Intensity
from cryosiam_engine.embeddings.instance_patches import InstanceCutter
from cryosiam_engine.embeddings.network import EmbeddingNetwork
from cryosiam_engine.embeddings.regions import boxes_of, read_regions
from cryosiam_engine.hdf5 import read_dataset
from cryosiam_engine.networks import load_network
from cryosiam_engine.preprocessing import normalise
from cryosiam_engine.volume import read_volume
from embedding_runs import (
    CENTERS,
    INSTANCES,
    embeddings_in,
    labels_in,
    recorded_patches,
    run_golden,
    table_in,
)

ATOL = 1e-4


@pytest.mark.parametrize(
    "case",
    [
        "15_embed_mask0",
        "15_embed_mask1",
        "15_embed_mask2",
        "15_embed_no_csv",
        "15_embed_plain",
    ],
)
def test_instances(
    golden: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(golden)  # its configurations are relative to this folder
    out = run_golden(golden, case, INSTANCES, tmp_path)
    theirs = golden / case / "out"
    names = {path.name for path in theirs.iterdir() if path.is_file()}
    assert {path.name for path in out.iterdir() if path.is_file()} == names
    stems = {name.removesuffix("_embeds.h5") for name in names if name.endswith("_embeds.h5")}
    assert stems
    for stem in stems:
        np.testing.assert_allclose(
            embeddings_in(out, stem), embeddings_in(theirs, stem), atol=ATOL, rtol=0
        )
        assert np.array_equal(labels_in(out, stem), labels_in(theirs, stem))
        pd.testing.assert_frame_equal(table_in(out, stem), table_in(theirs, stem))
        star = f"{stem}_instance_regions.star"
        a, b = starfile.read(out / star), starfile.read(theirs / star)
        pd.testing.assert_frame_equal(a, b)


def test_the_table_is_the_originals_to_the_byte(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(golden)
    out = run_golden(golden, "15_embed_mask1", INSTANCES, tmp_path, test_files=["TS_small.mrc"])
    name = "TS_small_instance_regions.csv"
    theirs = golden / "15_embed_mask1" / "out" / name
    assert (out / name).read_bytes() == theirs.read_bytes()


def test_with_a_table_the_whole_expanded_instance_is_cut(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default patches are those that the original cuts when it finds no table of regions."""
    monkeypatch.chdir(golden)
    instances = tmp_path / "instances"
    shutil.copytree(golden / "12_instance_d1" / "out", instances)
    out = run_golden(
        golden,
        "15_embed_no_csv",
        INSTANCES,
        tmp_path,
        tiling="auto",
        instances_mask_folder=str(instances),
        min_particle_size=None,
    )
    theirs = golden / "15_embed_no_csv" / "out"
    ours_by_label = dict(
        zip(labels_in(out, "TS_small"), embeddings_in(out, "TS_small"), strict=True)
    )
    theirs_by_label = dict(
        zip(labels_in(theirs, "TS_small"), embeddings_in(theirs, "TS_small"), strict=True)
    )
    assert theirs_by_label
    for label, embedding in theirs_by_label.items():
        np.testing.assert_allclose(ours_by_label[label], embedding, atol=ATOL)
    # What is told of the instances is not changed by the expansion.
    regions = pd.read_csv(instances / "TS_small_instance_regions.csv")
    written = table_in(out, "TS_small")
    pd.testing.assert_frame_equal(written.drop(columns="hull_area"), regions)


@pytest.mark.parametrize("masking_type", [0, 1, 2])
def test_patches(golden: Path, masking_type: int) -> None:
    with np.load(golden / "25_patches" / f"TS_small_mask{masking_type}.npz") as file:
        expected = dict(file)
    config = yaml.safe_load((golden / f"15_embed_mask{masking_type}" / "config.yaml").read_text())
    volume = read_volume(golden / "01_denoise" / "out" / "TS_small.mrc").data.astype(np.float32)
    normalise(volume, Intensity())
    folder = golden / "12_instance_d1" / "out"
    instances = read_dataset(folder / "TS_small_instance_preds.h5", "instances")
    table = read_regions(folder / "TS_small_instance_regions.csv", instances.shape)
    cutter = InstanceCutter(
        volume, instances, (16, 16, 16), masking_type, config["expand_labels"], faithful=True
    )
    cut = [
        cutter.cut(int(label), box)
        for label, box in zip(table["label"], boxes_of(table), strict=True)
    ]
    assert np.array_equal(table["label"], expected["labels"])
    np.testing.assert_allclose([patch for patch, _ in cut], expected["patches"], atol=1e-6)
    assert [area for _, area in cut] == expected["hull_area"].tolist()


@pytest.mark.parametrize("model", ["simsiam_contrastive", "simsiam_plain"])
def test_networks(golden: Path, model: str) -> None:
    with np.load(golden / "21_network" / f"{model}.npz") as file:
        x, projected, predicted = (file[name] for name in ("x", "z", "p_normalised"))
    simsiam = load_network(load_checkpoint(golden / "ckpt" / f"{model}.ckpt"), "embedding")
    for contrastive, expected in ((False, projected), (True, predicted)):
        network = EmbeddingNetwork(simsiam, contrastive=contrastive)
        np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), expected, atol=2e-5)


def test_network_with_max_pooling(golden: Path) -> None:
    name = "simsiam_maxpool_basic"
    with np.load(golden / "21_network" / f"variants_{name}.npz") as file:
        x, projected, predicted = (file[key] for key in ("x", "z", "p_normalised"))
    checkpoint = load_checkpoint(golden / "ckpt" / "variants" / f"{name}.ckpt")
    simsiam = load_network(checkpoint, "embedding")
    for contrastive, expected in ((False, projected), (True, predicted)):
        network = EmbeddingNetwork(simsiam, contrastive=contrastive)
        np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), expected, atol=2e-5)


def test_centers(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the right sub-tomograms: the original cuts them from the wrong place."""
    monkeypatch.chdir(golden)
    seen = recorded_patches(monkeypatch)
    out = run_golden(golden, "16_centers_csv", CENTERS, tmp_path)
    theirs = golden / "16_centers_csv" / "out"
    first = 0
    for stem in ("TS_a", "TS_b", "TS_small"):
        with np.load(golden / "16_centers_FIXED" / f"{stem}.npz") as file:
            expected = dict(file)
        last = first + len(expected["labels"])
        np.testing.assert_allclose(seen[first:last], expected["patches"], atol=1e-6)
        np.testing.assert_allclose(embeddings_in(out, stem), expected["embeddings"], atol=ATOL)
        assert np.array_equal(labels_in(out, stem), expected["labels"])
        pd.testing.assert_frame_equal(table_in(out, stem), table_in(theirs, stem))
        star = f"{stem}_instance_regions.star"
        pd.testing.assert_frame_equal(starfile.read(out / star), starfile.read(theirs / star))
        first = last
    assert first == len(seen)
    assert not (out / "centers_with_labels.csv").exists()


def test_centers_without_labels(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(golden)
    case = "16_centers_star_nolabel"
    out, theirs = run_golden(golden, case, CENTERS, tmp_path), golden / case / "out"
    edge = yaml.safe_load((golden / case / "config.yaml").read_text())["centers_patch_size"]
    for stem in ("TS_a", "TS_small"):
        assert np.array_equal(labels_in(out, stem), labels_in(theirs, stem))
        ours, original = table_in(out, stem), table_in(theirs, stem)
        assert set(ours) == set(original)
        assert (ours["area"] == edge**3).all()  # the original's is a wrong number
        shared = [name for name in original if name != "area"]
        pd.testing.assert_frame_equal(ours[shared], original[shared])
    ours, original = (
        starfile.read(folder / "centers_with_labels.star") for folder in (out, theirs)
    )
    pd.testing.assert_frame_equal(ours[list(original)], original)
