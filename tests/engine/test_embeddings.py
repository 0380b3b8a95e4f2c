from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cryosiam_engine.config import load_config
from cryosiam_engine.dense import RunOptions
from cryosiam_engine.embeddings.convex_hulls import convex_hull
from cryosiam_engine.embeddings.model import EmbeddingModel, load_embedding_model
from cryosiam_engine.embeddings.network import EmbeddingNetwork
from cryosiam_engine.errors import CheckpointError, ConfigurationError, DeviceError
from cryosiam_engine.instances.table import measure_instances, write_tables
from embedding_runs import (
    INSTANCES,
    PATCH,
    Project,
    embeddings_in,
    labels_in,
    recorded_patches,
    status_in,
    table_in,
)
from skimage.segmentation import expand_labels

SHAPE = (20, 24, 28)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def balls(n: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A tomogram in [0, 1] and balls of different sizes in it, some of which touch."""
    rng = np.random.default_rng(seed)
    instances = np.zeros(SHAPE, np.uint32)
    places = np.indices(SHAPE).reshape(3, -1).T
    for label in range(1, n + 1):
        center, radius = rng.uniform(0, SHAPE), rng.uniform(1, 4)
        near = (((places - center) ** 2).sum(axis=1) <= radius**2).reshape(SHAPE)
        instances[near & (instances == 0)] = label
    volume = np.clip(0.5 * (instances > 0) + 0.3 * rng.random(SHAPE), 0, 1)
    return volume.astype(np.float32), instances


def write_regions(project: Project, stem: str, instances: np.ndarray) -> pd.DataFrame:
    table = measure_instances(instances)
    write_tables(table, project.folder / "instances", stem, None)
    return table


def small_patch(box: np.ndarray) -> np.ndarray:
    """Pad and crop a box, written anew: index by index."""
    patch = np.zeros((PATCH,) * 3, np.float32)
    for voxel in np.ndindex(patch.shape):
        source = [
            i + n // 2 - PATCH // 2 if n > PATCH else i - (PATCH - n) // 2
            for i, n in zip(voxel, box.shape, strict=True)
        ]
        if all(0 <= i < n for i, n in zip(source, box.shape, strict=True)):
            patch[voxel] = box[tuple(source)]
    return patch


@pytest.mark.parametrize("masking_type", [0, 1, 2])
@pytest.mark.parametrize("with_table", [True, False])
@pytest.mark.parametrize("expand", [0, 2])
def test_an_instance_is_seen_with_its_expanded_box(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    masking_type: int,
    with_table: bool,
    expand: int,
) -> None:
    volume, instances = balls()
    project.add("TS_01", volume, instances)
    if with_table:
        write_regions(project, "TS_01", instances)
    seen = recorded_patches(monkeypatch)
    assert project.run(INSTANCES, masking_type=masking_type, expand_labels=expand).done
    grown = expand_labels(instances, expand) if expand else instances
    labels = labels_in(project.out, "TS_01")
    assert np.array_equal(labels, np.unique(instances[instances > 0]))
    hulls = table_in(project.out, "TS_01")["hull_area"]
    for label, patch, hull_area in zip(labels, seen, hulls, strict=True):
        where = [np.unique(axis) for axis in np.nonzero(grown == label)]
        box = tuple(slice(axis[0], axis[-1] + 1) for axis in where)
        own = grown[box] == label
        mask = {0: np.ones_like(own), 1: convex_hull(own), 2: own}[masking_type]
        assert np.array_equal(patch, small_patch(volume[box] * mask))
        assert hull_area == (mask.sum() if masking_type == 1 else 0)
    expected = measure_instances(instances)
    ours = table_in(project.out, "TS_01")[list(expected)]
    pd.testing.assert_frame_equal(ours, expected, check_dtype=False)


def test_reference_cuts_the_expansion_off_at_the_old_box(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, instances = balls()
    project.add("TS_01", volume, instances)
    table = write_regions(project, "TS_01", instances)
    seen = recorded_patches(monkeypatch)
    report = project.run(INSTANCES, tiling="reference", masking_type=2, expand_labels=2)
    assert report.done
    grown = expand_labels(instances, 2)
    for patch, row in zip(seen, table.to_dict("records"), strict=True):
        box = tuple(slice(row[f"bbox-{i}"], row[f"bbox-{i + 3}"]) for i in range(3))
        assert np.array_equal(patch, small_patch(volume[box] * (grown[box] == row["label"])))


def test_embeddings_do_not_depend_on_the_batch(project: Project) -> None:
    project.add("TS_01", *balls())
    found = []
    for size in (1, 4, 100):
        out = project.folder / f"out{size}"
        assert project.run(
            INSTANCES, prediction_folder=str(out), hyper_parameters={"batch_size": size}
        ).done
        found.append(embeddings_in(out, "TS_01"))
    assert np.allclose(np.linalg.norm(found[0], axis=1), 1, atol=1e-6)
    assert not np.allclose(found[0][0], found[0][1], atol=1e-3)
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


def test_size_limits(project: Project) -> None:
    volume, instances = balls()
    project.add("TS_01", volume, instances)
    areas = measure_instances(instances).set_index("label")["area"]
    low, high = areas.quantile([0.3, 0.8])
    assert project.run(INSTANCES, min_particle_size=float(low), max_particle_size=float(high)).done
    kept = areas[(areas >= low) & (areas <= high)]
    assert 0 < len(kept) < len(areas)
    assert labels_in(project.out, "TS_01").tolist() == kept.index.tolist()
    summary = status_in(project.out, "TS_01").summary
    assert summary["n_particles"] == len(kept)
    assert summary["instances_of_other_size"] == len(areas) - len(kept)


@pytest.mark.parametrize("table", ["none", "heading", "no line"])
def test_a_tomogram_without_instances(project: Project, table: str) -> None:
    project.add("TS_01", balls()[0], np.zeros(SHAPE, np.uint32))
    if table != "none":
        write_regions(project, "TS_01", np.zeros(SHAPE, np.uint32))
    if table == "no line":
        (project.folder / "instances" / "TS_01_instance_regions.csv").write_text("")
    assert project.run(INSTANCES).done == ["TS_01"]
    assert embeddings_in(project.out, "TS_01").shape == (0, 64)
    assert labels_in(project.out, "TS_01").shape == (0,)
    assert list(table_in(project.out, "TS_01"))[-1] == "hull_area"
    assert "no instances" in status_in(project.out, "TS_01").warnings[0]


def test_all_instances_of_the_wrong_size(project: Project) -> None:
    project.add("TS_01", *balls())
    assert project.run(INSTANCES, min_particle_size=10_000).done == ["TS_01"]
    assert "min_particle_size (10000.0)" in status_in(project.out, "TS_01").warnings[0]


def test_missing_instances_fail_that_tomogram_alone(project: Project) -> None:
    volume, instances = balls()
    project.add("TS_01", volume)
    project.add("TS_02", volume, instances)
    report = project.run(INSTANCES)
    assert (report.done, list(report.failed)) == (["TS_02"], ["TS_01"])
    assert "No instances of TS_01" in report.failed["TS_01"]
    assert status_in(project.out, "TS_01").state == "failed"


def test_instances_of_another_shape(project: Project) -> None:
    volume, instances = balls()
    project.add("TS_01", volume, instances[1:])
    assert "same binning" in project.run(INSTANCES).failed["TS_01"]


def test_a_table_of_other_instances(project: Project) -> None:
    volume, instances = balls()
    project.add("TS_01", volume, instances)
    table = write_regions(project, "TS_01", instances)
    path = project.folder / "instances" / "TS_01_instance_regions.csv"
    table.assign(label=table["label"] + 100).to_csv(path, index=False)
    assert "Instance 101 has no voxel" in project.run(INSTANCES).failed["TS_01"]
    table.assign(**{"bbox-3": 1000}).to_csv(path, index=False)
    assert "is not in the volume" in project.run(INSTANCES).failed["TS_01"]
    table.drop(columns="area").to_csv(path, index=False)
    assert "no table of regions" in project.run(INSTANCES).failed["TS_01"]


def test_names_with_the_range_of_the_instances(project: Project) -> None:
    project.add("TS_01", *balls(), suffix="_min-1_max-4.5")
    assert project.run(INSTANCES, instances={"min": 1, "max": 4.5}).done == ["TS_01"]


def test_scores_are_kept(project: Project) -> None:
    volume, instances = balls()
    project.add("TS_01", volume, instances)
    table = measure_instances(instances, volume)
    write_tables(table, project.folder / "instances", "TS_01", None)
    assert project.run(INSTANCES).done
    assert np.allclose(table_in(project.out, "TS_01")["score"], table["score"])


def test_a_second_run_skips_what_is_still_valid(project: Project) -> None:
    volume, instances = balls()
    project.add("TS_01", volume, instances)
    assert project.run(INSTANCES).done == ["TS_01"]
    assert project.run(INSTANCES).skipped == ["TS_01"]
    assert project.run(INSTANCES, masking_type=2).done == ["TS_01"]
    project.make_model("other.ckpt", seed=5)
    other = str(project.folder / "other.ckpt")
    assert project.run(INSTANCES, masking_type=2, trained_model=other).done == ["TS_01"]
    project.add("TS_01", volume, instances * (instances > 1))
    assert project.run(INSTANCES, masking_type=2, trained_model=other).done == ["TS_01"]
    assert 1 not in labels_in(project.out, "TS_01")
    write_regions(project, "TS_01", instances * (instances > 1))
    assert project.run(INSTANCES, masking_type=2, trained_model=other).done == ["TS_01"]


def load(project: Project, **changes: Any) -> EmbeddingModel:
    import yaml

    path = project.folder / "model.yaml"
    path.write_text(yaml.safe_dump({**project.values, **changes}))
    config = load_config(path, INSTANCES)
    return load_embedding_model(config, RunOptions(device="cpu"), masking_type=config.masking_type)


def test_memory_that_runs_out_halves_the_batch(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(project, hyper_parameters={"batch_size": 8})
    patches = np.random.default_rng(0).random((11, PATCH, PATCH, PATCH)).astype(np.float32)
    expected = model.embed(iter(patches), len(patches))
    original, sizes = EmbeddingNetwork.forward, []

    def forward(self: EmbeddingNetwork, x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError
        return original(self, x)

    monkeypatch.setattr(EmbeddingNetwork, "forward", forward)
    told = []
    found = model.embed(iter(patches), len(patches), lambda *state: told.append(state))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert told[0] == (0, 11)
    assert told[-1] == (11, 11)


def test_a_single_patch_that_does_not_fit(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(project)

    def forward(self: EmbeddingNetwork, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(EmbeddingNetwork, "forward", forward)
    with pytest.raises(DeviceError, match="single sub-tomogram"):
        model.embed(iter(np.zeros((4, 8, 8, 8), np.float32)), 4)


def test_a_large_batch_is_lowered_to_what_fits(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = {"batch_size": 10_000}
    monkeypatch.setattr("cryosiam_engine.embeddings.model.free_memory", lambda device: 2**24)
    assert 1 <= load(project, hyper_parameters=batch).batch_size < 10_000
    monkeypatch.setattr("cryosiam_engine.embeddings.model.free_memory", lambda device: 1)
    assert load(project, hyper_parameters=batch).batch_size == 1


def test_only_a_batch_of_patches_is_held(project: Project) -> None:
    """The stream is read no further than the batch that is computed."""
    model = load(project, hyper_parameters={"batch_size": 4})
    given, ahead = 0, []

    def patches() -> Any:
        nonlocal given
        for _ in range(50):
            given += 1
            yield np.zeros((PATCH,) * 3, np.float32)

    model.embed(patches(), 50, lambda done, total: ahead.append(given - done))
    assert given == 50
    assert max(ahead) <= 4


def test_the_width_in_the_configuration(project: Project) -> None:
    with pytest.raises(ConfigurationError, match=r"dim is 128.*have 64 numbers"):
        load(project, parameters={"data": {"patch_size": [8, 8, 8]}, "network": {"dim": 128}})
    network = {"dim": 64}
    model = load(project, parameters={"data": {"patch_size": [8, 8, 8]}, "network": network})
    assert model.network.dim == 64


def test_other_models_are_refused(project: Project, models: Path) -> None:
    with pytest.raises(CheckpointError, match="an embedding model"):
        load(project, trained_model=str(models / "denoising.ckpt"))


@pytest.mark.parametrize(
    ("name", "masking_type", "contrastive", "words"),
    [
        ("model.ckpt", 1, True, []),
        ("model.ckpt", 1, False, ["contrastive is False"]),
        ("simsiam_embeds_denoised_convex_hull.ckpt", 1, True, []),
        ("simsiam_embeds_denoised_convex_hull.ckpt", 2, True, ["masking_type 1"]),
        ("simsiam_embeds_denoised_strict.ckpt", 0, False, ["contrastive is", "masking_type 2"]),
    ],
)
def test_wrong_pairings_are_warned_about(
    project: Project, name: str, masking_type: int, contrastive: bool, words: list[str]
) -> None:
    project.make_model(name)
    project.add("TS_01", *balls(2))
    model = str(project.folder / name)
    report = project.run(
        INSTANCES, trained_model=model, masking_type=masking_type, contrastive=contrastive
    )
    assert report.done == ["TS_01"]
    warnings = status_in(project.out, "TS_01").warnings
    assert len(warnings) == len(words)
    for warning, word in zip(warnings, words, strict=True):
        assert "WRONG PAIRING" in warning
        assert word in warning


def test_half_precision_stays_near(project: Project) -> None:
    from cryosiam_engine.device import resolve_precision

    model = load(project)
    patches = np.random.default_rng(0).random((4, 16, 16, 16)).astype(np.float32)
    full = model.embed(iter(patches), 4)
    model.dtype = resolve_precision("bf16", torch.device("cpu")).dtype
    model.network.encoder.to(model.dtype)
    half = model.embed(iter(patches), 4)
    assert half.dtype == np.float32
    assert (np.sum(full * half, axis=1) > 0.99).all()


def test_numbers_that_are_not_finite_fail(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add("TS_01", *balls())
    original = EmbeddingNetwork.forward
    monkeypatch.setattr(EmbeddingNetwork, "forward", lambda self, x: original(self, x) * np.inf)
    assert "not finite" in project.run(INSTANCES).failed["TS_01"]
    assert not (project.out / "TS_01_embeds.h5").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masking_type": 3}, "masking_type"),
        ({"min_particle_size": 9, "max_particle_size": 8}, "larger than max_particle_size"),
        ({"expand_labels": -1}, "expand_labels"),
        ({"parameters": {"data": {"patch_size": [8, 8]}}}, "patch_size"),
        ({"parameters": {"data": {"patch_size": [8, 8, 0]}}}, "patch_size"),
    ],
)
def test_wrong_configurations(project: Project, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        project.run(INSTANCES, **changes)


@pytest.mark.parametrize("name", ["data_folder", "instances_mask_folder"])
def test_results_never_overwrite_the_input(project: Project, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"prediction_folder and {name} are the same"):
        project.run(INSTANCES, prediction_folder=project.values[name])
