"""The command ``cryosiam-engine demo``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from cryosiam_engine.demo.picture import save_picture
from cryosiam_engine.demo.report import aligned, write_scores
from cryosiam_engine.demo.scoring import score_run
from cryosiam_engine.demo.workflow import Folders, add_sample, run_steps, steps
from cryosiam_engine.demo_models import sample_settings
from cryosiam_engine.device import choose_device

logger = logging.getLogger(__name__)

#: No model was trained on these.
SEEDS = (0, 1)


def run(args: argparse.Namespace) -> int:
    """Simulate tomograms, take them through every step, and compare with the truth.

    Parameters
    ----------
    args
        ``output`` (folder), ``device`` and ``precision``.

    Returns
    -------
    int
        0 when every step did all tomograms.
    """
    folders = Folders(Path(args.output).absolute())
    to_do = steps(folders)
    device = str(choose_device(args.device))
    logger.info("Simulating %d tomograms ...", len(SEEDS))
    names = [f"TS_{number + 1:02d}" for number in range(len(SEEDS))]
    for seed, name in zip(SEEDS, names, strict=True):
        add_sample(folders, name, sample_settings(seed))
    code = run_steps(folders, to_do, device=device, precision=args.precision)
    if code == 0:
        _report(folders, names)
    return code


def _report(folders: Folders, names: list[str]) -> None:
    rows = write_scores(score_run(folders, names), folders.root)
    pictures = [save_picture(folders, name) for name in names]
    predictions = folders.root / "predictions"
    logger.info("")
    logger.info("Compared with the truth (simulated tomograms that no model was trained on):")
    for line in aligned(rows):
        logger.info("  %s", line)
    logger.info("")
    for what, where in (
        ("Pictures, truth below", ", ".join(map(str, pictures))),
        ("Map of all particles", folders.result("embeddings") / "embeddings_map.html"),
        ("Scores", f"{folders.root / 'scores.md'} and .json"),
        ("Tomograms", f"{folders.tomograms} (what is true of them: {folders.truth})"),
        ("Results", f"{predictions}/denoised, lamella, semantic, instances, embeddings"),
        ("Configurations", f"{folders.root}/config_*.yaml, to change and run again"),
    ):
        logger.info("%-22s %s", f"{what}:", where)
    logger.info("The built-in models know simulated tomograms only: for real data take others.")
