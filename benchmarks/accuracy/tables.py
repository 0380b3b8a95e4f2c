"""The report: a table per task, and in words where learning was no help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Template

from cryosiam_engine.demo.report import markdown
from cryosiam_engine.demo.scoring import MATCH_DISTANCE
from names import OURS, Results

#: Heading of each task, and what its numbers are.
TASKS = {
    "denoising": ("Denoising", "correlation with the noise-free volume within the lamella"),
    "lamella": ("Lamella mask", "Dice"),
    "foreground": ("Membranes and particles as one class", "Dice"),
    "class membrane": ("Membrane", "Dice"),
    "class ribosome": ("Ribosome", "Dice"),
    "class proteasome": ("Proteasome", "Dice"),
    "class rubisco": ("Rubisco", "Dice"),
    "centres of ribosome": ("Centres of ribosomes", "F1"),
    "centres of proteasome": ("Centres of proteasomes", "F1"),
    "centres of rubisco": ("Centres of rubisco", "F1"),
    "instances": ("Instances", "average precision at IoU 0.5"),
    "instances, vesicles included": (
        "Instances of the instance model alone, vesicles included",
        "average precision at IoU 0.5",
    ),
    "clusters": ("Clusters of embeddings", "adjusted Rand index with the species"),
    "clusters of true instances": (
        "Clusters of embeddings of the true instances",
        "adjusted Rand index with the species",
    ),
}


def write_report(by_snr: dict[str, Results], tomograms: int, path: Path) -> None:
    """Write the report in Markdown."""
    lost = "".join(f"- {line}\n" for line in where_others_win(by_snr))
    text = Template((Path(__file__).parent / "template.md").read_text()).substitute(
        tomograms=tomograms,
        distance=f"{MATCH_DISTANCE:g}",
        table=markdown(_heading(by_snr), rows(by_snr)),
        lost=lost or "Nowhere.\n",
    )
    path.write_text(text)


def rows(by_snr: dict[str, Results], tasks: tuple[str, ...] = tuple(TASKS)) -> Iterator[list[str]]:
    """A row per task and method, a column per signal-to-noise ratio."""
    for task in tasks:
        methods = list(next(iter(by_snr.values()))[task])
        best = {snr: max(results[task].values()) for snr, results in by_snr.items()}
        for method in methods:
            values = {snr: results[task][method] for snr, results in by_snr.items()}
            marked = (
                f"**{value:.2f}**" if len(methods) > 1 and value == best[snr] else f"{value:.2f}"
                for snr, value in values.items()
            )
            yield [TASKS[task][0], TASKS[task][1], method, *marked]


def where_others_win(by_snr: dict[str, Results]) -> Iterator[str]:
    """Say it for each task and ratio where another method is as good as ours or better."""
    for task in TASKS:
        for snr, results in by_snr.items():
            ours = results[task].get(OURS)
            others = {name: value for name, value in results[task].items() if name != OURS}
            for name, value in others.items():
                if ours is not None and round(value, 2) >= round(ours, 2):
                    yield f"{TASKS[task][0]}, ratio {snr}: {name} {value:.2f}, ours {ours:.2f}."


def _heading(by_snr: dict[str, Results]) -> list[str]:
    return ["task", "score", "method", *(f"SNR {snr}" for snr in by_snr)]
