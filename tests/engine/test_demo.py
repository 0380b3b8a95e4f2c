from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cryosiam_engine import demo_models
from cryosiam_engine.config import load_config
from cryosiam_engine.demo import command, report, workflow
from cryosiam_engine.demo.picture import save_picture
from cryosiam_engine.demo.results import read_truth
from cryosiam_engine.demo.scoring import score_classes, score_instances, score_run, true_kinds
from cryosiam_engine.demo.workflow import Folders, steps
from cryosiam_engine.demo_models import CLASS_NAMES, NAMES, demo_model, sample_settings
from cryosiam_engine.errors import CheckpointError
from cryosiam_engine.files import write_text
from cryosiam_engine.hdf5 import write_datasets
from cryosiam_engine.simulation import SimulationSettings, simulate, write_simulation
from cryosiam_engine.training import demo_recipes, demo_tomograms
from cryosiam_engine.volume import write_mrc
from PIL import Image

NAME = "TS_01"


def small_settings(seed: int, snr: float = 0.5) -> SimulationSettings:
    return dataclasses.replace(
        sample_settings(seed, snr),
        shape=(56, 80, 80),
        particles_per_species={"ribosome": 5, "proteasome": 4, "rubisco": 8},
        membranes=1,
        membrane_radius=(150.0, 180.0),
    )


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A run whose every result is the truth itself."""
    folders = Folders(tmp_path_factory.mktemp("demo"))
    made = simulate(small_settings(3), NAME)
    write_simulation(made, folders.root)
    write_mrc(folders.result("denoised") / f"{NAME}.mrc", made.clean, voxel_size=13.48)
    write_datasets(folders.result("lamella") / f"{NAME}_preds.h5", {"labels": made.lamella})
    write_datasets(folders.result("semantic") / f"{NAME}_preds.h5", {"labels": made.semantic})
    table = made.particles.to_csv(index=False)
    write_text(folders.result("semantic") / f"{NAME}_particles.csv", table)
    particles = made.particles[made.particles["semantic_class"] > 1]
    instances = np.where(made.semantic > 1, made.instances, 0).astype(np.uint32)
    file = folders.result("instances") / f"{NAME}_instance_preds.h5"
    write_datasets(file, {"instances": instances})
    clusters = pd.DataFrame(
        {"tomo": NAME, "label": particles["label"], "cluster": 9 - particles["semantic_class"]}
    )
    write_text(folders.result("embeddings") / "kmeans_clusters.csv", clusters.to_csv(index=False))
    return folders


# ---- scores --------------------------------------------------------------------------------------


def test_perfect_results_have_perfect_scores(perfect: Folders) -> None:
    scores = score_run(perfect, [NAME])
    assert scores["denoising"]["denoised"] == pytest.approx(1)
    assert scores["denoising"]["tomogram"] < scores["denoising"]["gaussian"] < 1
    assert scores["lamella"] == 1
    assert scores["classes"] == dict.fromkeys(list(CLASS_NAMES.values())[1:], 1)
    truth = read_truth(perfect, NAME).particles["class_name"].value_counts()
    for species, score in scores["particles"].items():
        n = int(truth[species])
        assert score == {"precision": 1, "recall": 1, "f1": 1, "true": n, "found": n}
    assert scores["instances"]["average_precision"] == 1
    assert scores["instances"]["true"] == sum(truth) - truth["membrane"]
    assert scores["clusters"] == {
        "adjusted_rand_index": 1,
        "particles": scores["instances"]["true"],
    }


def test_tomograms_are_counted_together() -> None:
    one, none = np.ones((2, 2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)
    two = one.copy()
    two[1] = 2
    scores = score_instances([(two, two), (one, none), (none, one)])
    assert scores == {"average_precision": 2 / 4, "true": 3, "found": 3}
    assert score_classes([(two, two), (two, one)])["ribosome"] == pytest.approx(0.5)


def test_kinds_of_instances_are_those_of_the_particles_behind_them(perfect: Folders) -> None:
    truth = read_truth(perfect, NAME)
    chosen = truth.particles[truth.particles["semantic_class"] > 1].iloc[0]
    found = np.zeros_like(truth.instances)
    found[truth.instances == chosen["label"]] = 7
    found[truth.classes == 1] = 3  # a vesicle is no particle
    kinds = true_kinds(truth, found)
    assert kinds[7] == chosen["semantic_class"]
    assert kinds[3] == 0


def test_report_holds_every_score(perfect: Folders, tmp_path: Path) -> None:
    scores = score_run(perfect, [NAME])
    scores["classes"]["membrane"] = float("nan")
    rows = report.write_scores(scores, tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text())["instances"] == scores["instances"]
    table = (tmp_path / "scores.md").read_text().splitlines()
    assert len(table) == len(rows) + 2
    assert ("class membrane", "Dice", "-") in rows
    assert any(row[0] == "centres of rubisco" and row[2] == "1.00, 1.00, 1.00" for row in rows)
    lines = report.aligned(rows)
    assert len({line.rindex("  ") for line in lines if line.endswith(" 1.00")}) == 1


# ---- picture -------------------------------------------------------------------------------------


def test_picture_shows_wrong_particles_in_red(perfect: Folders) -> None:
    with Image.open(save_picture(perfect, NAME)) as picture:
        before = np.asarray(picture, np.int32)
    file = perfect.result("instances") / f"{NAME}_instance_preds.h5"
    truth = read_truth(perfect, NAME)
    invented = np.where(truth.classes == 0, 90, truth.instances).astype(np.uint32)
    write_datasets(file, {"instances": invented})
    with Image.open(save_picture(perfect, NAME)) as picture:
        after = np.asarray(picture, np.int32)
    write_datasets(file, {"instances": truth.instances})
    assert before.shape == after.shape == (2 * (80 * 2 + 18), 5 * 80 * 2, 3)
    red = (after[..., 0] - after[..., 1]) - (before[..., 0] - before[..., 1])
    changed = np.argwhere(red > 50)
    # Only in the panel of the particles found: the last one of the upper row.
    assert len(changed) > 1000
    assert changed[:, 0].max() < 80 * 2 + 18
    assert changed[:, 1].min() >= 4 * 80 * 2


# ---- models and steps ----------------------------------------------------------------------------


def test_unknown_and_missing_models_are_explained(monkeypatch, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="denoising, lamella"):
        demo_model("denoise")
    monkeypatch.setattr(demo_models, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(CheckpointError, match="train_demo_models"):
        demo_model("semantic")


def test_samples_are_those_of_the_training_but_never_the_same() -> None:
    settings = sample_settings(0)
    assert settings.shape == demo_tomograms.SHAPE
    assert settings.particles_per_species == demo_tomograms.PARTICLES
    assert demo_recipes.MODELS and set(NAMES) == set(demo_recipes.MODELS)
    assert [*CLASS_NAMES.values()][2:] == [*demo_tomograms.PARTICLES]
    assert max(command.SEEDS) < demo_tomograms.FIRST_SEED


def test_every_step_has_a_valid_configuration(tmp_path: Path) -> None:
    model = tmp_path / "model.ckpt"
    for step in steps(Folders(tmp_path), lambda _: model):
        path = tmp_path / f"{step.name}.yaml"
        path.write_text(json.dumps(step.config))  # JSON is YAML
        assert load_config(path, step.command).command == step.command


def test_a_failed_step_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    monkeypatch.setattr(workflow, "run_command", lambda args: begun.append(args.command) or 1)
    to_do = steps(Folders(tmp_path), lambda _: tmp_path / "model.ckpt")
    assert workflow.run_steps(Folders(tmp_path), to_do, device="cpu", precision="auto") == 1
    assert begun == ["denoise_predict"]


@pytest.mark.slow
def test_built_in_models_know_simulated_tomograms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "sample_settings", small_settings)
    arguments = argparse.Namespace(output=str(tmp_path / "demo"), device="cpu", precision="auto")
    assert command.run(arguments) == 0
    scores = json.loads((tmp_path / "demo" / "scores.json").read_text())
    denoising = scores["denoising"]
    assert denoising["denoised"] > denoising["gaussian"] > denoising["tomogram"]
    assert scores["lamella"] > 0.8
    assert scores["classes"]["membrane"] > 0.5
    assert scores["particles"]["ribosome"]["f1"] > 0.7
    assert scores["instances"]["average_precision"] > 0.3
    for file in ("TS_01.png", "TS_02.png", "predictions/embeddings/embeddings_map.html"):
        assert (tmp_path / "demo" / file).stat().st_size > 10_000
