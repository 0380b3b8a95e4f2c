"""The scores in the model cards: replaced as a whole, never typed."""

from __future__ import annotations

import re
from pathlib import Path

from cryosiam_engine.demo.report import markdown
from names import Results
from tables import rows

#: What each card shows.
SCORES = {
    "denoising": ("denoising",),
    "lamella": ("lamella",),
    "semantic": (
        "foreground",
        "class membrane",
        "class ribosome",
        "class proteasome",
        "class rubisco",
        "centres of ribosome",
        "centres of proteasome",
        "centres of rubisco",
    ),
    "instance": ("instances", "instances, vesicles included"),
    "embedding": ("clusters", "clusters of true instances"),
}
_BEGIN, _END = "<!-- scores -->\n", "<!-- end of scores -->\n"


def update_cards(by_snr: dict[str, Results], tomograms: int, folder: Path) -> None:
    """Put the scores into ``demo_<name>.md`` in a folder."""
    for name, tasks in SCORES.items():
        path = folder / f"demo_{name}.md"
        path.write_text(with_scores(path.read_text(), by_snr, tomograms, tasks))


def with_scores(
    card: str, by_snr: dict[str, Results], tomograms: int, tasks: tuple[str, ...]
) -> str:
    """A card's text with the scores of these tasks between its two marks.

    Raises
    ------
    ValueError
        When the marks are not there.
    """
    heading = ["task", "score", "method", *(f"SNR {snr}" for snr in by_snr)]
    said = (
        f"On {tomograms} held-out simulated tomograms at each signal-to-noise ratio "
        "(`benchmarks/accuracy`); bold is the best of a task.\n\n"
    )
    table = markdown(heading, rows(by_snr, tasks))
    pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
    changed, n = re.subn(pattern, lambda _: f"{_BEGIN}{said}{table}{_END}", card, flags=re.DOTALL)
    if n != 1:
        raise ValueError("the card has no place for scores")
    return changed
