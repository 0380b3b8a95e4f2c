"""How good the built-in models are on tomograms that they have not seen, beside simple methods.

``python benchmarks/accuracy/run.py`` (needs matplotlib) simulates, runs everything and writes
results.json, README.md and the figures beside this file, and the scores of the model cards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import baselines
import template_matching
from baselines import Sample
from cards import update_cards
from cryosiam_engine.demo.picture import save_picture
from cryosiam_engine.demo.scoring import MATCH_DISTANCE
from cryosiam_engine.demo_models import VOXEL_SIZE, demo_model
from cryosiam_engine.logs import log_to_terminal
from cryosiam_engine.scores import Matches, match_points
from cryosiam_engine.simulation.species import SPECIES
from figures import draw_scores
from names import Results
from ours import score_models
from samples import Level, held_out, make_level, run_models, tuning_sample
from tables import write_report

HERE = Path(__file__).parent
SNRS = (1.0, 0.5, 0.25)
PICKED = ("ribosome", "proteasome", "rubisco")
GAUSSIAN, OTSU, DOG, TEMPLATES = (
    "Gaussian",
    "Gaussian and Otsu",
    "differences of Gaussians",
    "template matching",
)


def main() -> None:
    """Simulate, predict, score and report."""
    arguments = _arguments()
    model = demo_model if arguments.models is None else partial(_model_in, arguments.models)
    results: dict[str, Results] = {}
    with log_to_terminal():
        levels = [make_level(arguments.work, snr, arguments.tomograms) for snr in SNRS]
        for level in levels:
            run_models(level, model, arguments.device)
        for level in levels:
            results[f"{level.snr:g}"] = _merged(score_models(level), score_baselines(level))
    text = json.dumps({"tomograms": arguments.tomograms, "by_snr": results}, indent=1)
    (arguments.report / "results.json").write_text(text + "\n")
    write_report(results, arguments.tomograms, arguments.report / "README.md")
    draw_scores(results, arguments.report / "scores.png")
    picture = save_picture(levels[-1].folders, levels[-1].names[0])
    picture.replace(arguments.report / "example.png")
    if arguments.models is None:
        update_cards(results, arguments.tomograms, demo_model("denoising").parent)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--work", type=Path, default=Path("accuracy-work"), help="for tomograms and results")
    add("--report", type=Path, default=HERE, help="where report and figures go")
    add("--models", type=Path, help="folder with other demo_<name>.safetensors")
    add("--tomograms", type=int, default=2, help="at each noise level")
    add("--device", default="auto")
    arguments = parser.parse_args()
    arguments.work, arguments.report = arguments.work.absolute(), arguments.report.absolute()
    return arguments


def _model_in(folder: Path, name: str) -> Path:
    return folder.absolute() / f"demo_{name}.safetensors"


def score_baselines(level: Level) -> Results:
    """What can be reached without learning at one noise level."""
    samples, tuned_on = held_out(level), tuning_sample(level.snr)
    smooth = baselines.best_sigma(tuned_on, baselines.gaussian_correlation)
    segmenting = baselines.best_otsu(tuned_on, baselines.Otsu.dice)
    separating = baselines.best_otsu(tuned_on, baselines.Otsu.precision)
    components = Matches(0, 0, 0)
    for sample in samples:
        components += separating.matches(sample)
    picked = {name: _picks(tuned_on, samples, name) for name in PICKED}
    return {
        "denoising": {
            GAUSSIAN: _mean([baselines.gaussian_correlation(s, smooth) for s in samples])
        },
        "foreground": {OTSU: _mean([segmenting.dice(s) for s in samples])},
        "instances": {f"{OTSU}, components": components.average_precision},
        **{f"centres of {name}": scores for name, scores in picked.items()},
    }


def _picks(tuned_on: Sample, samples: Sequence[Sample], species: str) -> dict[str, float]:
    radius = SPECIES[species].radius / VOXEL_SIZE
    blobs, _ = baselines.pick_blobs(tuned_on, samples, species, radius)
    everything = [tuned_on, *samples]
    maps = template_matching.score_maps(
        [template_matching.spectra(sample.tomogram) for sample in everything], species, VOXEL_SIZE
    )
    peaks = [
        baselines.find_peaks(scores, sample.lamella, radius)
        for scores, sample in zip(maps, everything, strict=True)
    ]
    threshold, _ = baselines.best_threshold(peaks[0], tuned_on.centres[species])
    matched = Matches(0, 0, 0)
    for sample, found in zip(samples, peaks[1:], strict=True):
        matched += match_points(sample.centres[species], found.above(threshold), MATCH_DISTANCE)
    return {DOG: blobs.f1, TEMPLATES: matched.f1}


def _merged(ours: Results, others: Results) -> Results:
    return {task: {**methods, **others.get(task, {})} for task, methods in ours.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
