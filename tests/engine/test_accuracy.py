from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from cryosiam_engine.simulation import SimulationSettings, simulate
from cryosiam_engine.simulation.species import SPECIES

FOLDER = Path(__file__).parents[2] / "benchmarks" / "accuracy"


@pytest.fixture(scope="module", autouse=True)
def _importable():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def module(name: str):
    return importlib.import_module(name)


# ---- template matching ---------------------------------------------------------------------------


def test_orientations_are_spread_evenly():
    rotations = [*module("template_matching").orientations("ribosome")]
    assert len(rotations) == module("template_matching").ROTATIONS["ribosome"]
    axes = np.array([rotation.as_matrix()[0] for rotation in rotations])
    assert np.linalg.norm(axes.mean(axis=0)) < 0.05
    # As many in each half of the sphere, whichever way it is cut.
    assert np.abs((axes > 0).mean(axis=0) - 0.5).max() < 0.06


def test_template_has_its_mass_in_the_middle():
    matching = module("template_matching")
    for rotation in [*matching.orientations("ribosome")][::80]:
        density = matching.template("ribosome", rotation, 13.48)
        weights = density / density.sum()
        places = np.indices(density.shape).reshape(3, -1)
        assert places @ weights.ravel() == pytest.approx((np.array(density.shape) - 1) / 2, abs=0.3)


def test_template_matching_finds_particles_and_their_places():
    matching, baselines = module("template_matching"), module("baselines")
    settings = SimulationSettings(
        shape=(40, 64, 64), particles_per_species={"rubisco": 6}, membranes=0, snr=4, seed=2
    )
    made = simulate(settings)
    scores = matching.score_maps([matching.spectra(-made.tomogram)], "rubisco", 13.48)[0]
    assert 0.5 < scores.max() <= 1
    radius = SPECIES["rubisco"].radius / 13.48
    peaks = baselines.find_peaks(scores, made.lamella > 0, radius)
    truth = made.particles[["centroid-0", "centroid-1", "centroid-2"]].to_numpy()
    _, f1 = baselines.best_threshold(peaks, truth)
    assert f1 > 0.9


# ---- other baselines -----------------------------------------------------------------------------


def test_peaks_are_apart_and_within_the_lamella():
    baselines = module("baselines")
    scores = np.random.default_rng(0).normal(size=(12, 20, 20)).astype(np.float32)
    lamella = np.zeros(scores.shape, bool)
    lamella[2:10] = True
    peaks = baselines.find_peaks(scores, lamella, 4.0)
    assert (np.diff(peaks.heights) <= 0).all()
    assert peaks.places[:, 0].min() >= 2 and peaks.places[:, 0].max() < 10
    distances = np.linalg.norm(peaks.places[:, None] - peaks.places[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 4.0 * baselines.APART
    # Whatever else is a local maximum is too near to one of them.
    best = np.unravel_index(np.where(lamella, scores, -9).argmax(), scores.shape)
    assert tuple(peaks.places[0]) == best


def test_threshold_is_the_best_there_is():
    baselines = module("baselines")
    places = np.array([(0, 0, z) for z in (0, 20, 40, 60, 80)], float)
    peaks = baselines.Peaks(places, np.array([9.0, 8, 7, 6, 5]))
    threshold, f1 = baselines.best_threshold(peaks, places[[0, 1, 3]])
    assert (threshold, f1) == (6.0, pytest.approx(2 * 3 / (4 + 3)))
    assert len(peaks.above(threshold)) == 4


def test_blobs_are_picked_at_their_own_width():
    baselines = module("baselines")
    z, y, x = np.ogrid[:24, :48, :48]
    volume = np.zeros((24, 48, 48), np.float32)
    centres = np.array([(12, 12, 12), (12, 36, 20), (12, 20, 38)], float)
    for a, b, c in centres:
        volume += ((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= 5**2).astype(np.float32)
    volume[4, 4, 4] = 30  # higher than all, but far narrower
    inside = np.ones(volume.shape, bool)
    labels = (volume == 1).astype(np.uint8)
    sample = baselines.Sample(volume, volume, inside, labels, labels, {"ball": centres})
    counts, sigma = baselines.pick_blobs(sample, [sample, sample], "ball", 5.0)
    assert (counts.matched, counts.spurious, counts.missed) == (6, 0, 0)
    assert sigma >= 2


# ---- report --------------------------------------------------------------------------------------


def results(ours: float, other: float) -> dict[str, dict[str, float]]:
    tables, own = module("tables"), module("ours")
    return {task: {own.OURS: ours, "another": other} for task in tables.TASKS}


def test_report_says_where_others_win(tmp_path: Path):
    tables = module("tables")
    by_snr = {"1": results(0.5, 0.7), "0.5": results(0.5, 0.4)}
    tables.write_report(by_snr, 2, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    assert "- Rubisco, ratio 1: another 0.70, ours 0.50.\n" in text
    assert "ratio 0.5:" not in text
    assert "| Rubisco | Dice | another | **0.70** | 0.40 |\n" in text
    assert "Nowhere." not in text
    tables.write_report({"1": results(0.5, 0.4)}, 2, tmp_path / "README.md")
    assert "Nowhere." in (tmp_path / "README.md").read_text()


def test_scores_of_a_card_are_replaced():
    cards = module("cards")
    card = "# Card\n\n<!-- scores -->\nstale\n<!-- end of scores -->\n\nEnd\n"
    once = cards.with_scores(card, {"1": results(0.5, 0.7)}, 2, ("denoising",))
    assert "stale" not in once and once.startswith("# Card\n") and once.endswith("\nEnd\n")
    assert "| Denoising |" in once and "**0.70**" in once
    assert cards.with_scores(once, {"1": results(0.5, 0.7)}, 2, ("denoising",)) == once
    with pytest.raises(ValueError, match="no place"):
        cards.with_scores("# Card\n", {"1": results(0.5, 0.7)}, 2, ("denoising",))


def test_every_built_in_model_has_a_card_with_a_place_for_scores():
    from cryosiam_engine import demo_models

    cards = module("cards")
    assert set(cards.SCORES) == set(demo_models.NAMES)
    for name, tasks in cards.SCORES.items():
        card = Path(demo_models.__file__).with_name(f"demo_{name}.md").read_text()
        assert cards.with_scores(card, {"1": results(0.5, 0.7)}, 2, tasks)
