"""The engine of an environment, as an ordinary user: the same results as at home."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cryosiam_engine.cli import main
from ordinary_user import (
    N_TOMOGRAMS,
    GpuWatch,
    check_results,
    everybodys_python,
    submit,
    write_tomograms,
)

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_tomograms_as_at_home(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stems = write_tomograms(place)
    with GpuWatch(place) as watch:
        done = submit(place, everybodys_python(sys.executable, place))
    assert main(["denoise_predict", "--config_file", str(place / "here.yaml")]) == 1
    check_results(place, stems, done)
    watch.check(N_TOMOGRAMS)
    assert main(["slurm", "status", str(place / "there")]) == 1
    assert f"done {len(stems)}, failed 1 of {N_TOMOGRAMS}" in capfd.readouterr().out
