"""The engine itself, killed by a real Slurm for its memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from cryosiam_engine.cli import main
from cryosiam_engine.demo_models import demo_model
from cryosiam_engine.slurm.journal import Journal
from cryosiam_engine.volume import read_volume, write_mrc

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_after_a_memory_kill_tiles_are_smaller(place: Path) -> None:
    """The first attempt gets less than the engine's libraries take."""
    volume = np.random.default_rng(0).random((32, 64, 64), np.float32)
    write_mrc(place / "data" / "TS_1.mrc", volume, voxel_size=13.48)
    for name in ("here", "there"):
        values = {"data_folder": place / "data", "prediction_folder": place / name}
        values = {**values, "trained_model": demo_model("denoising")}
        text = yaml.safe_dump({key: str(value) for key, value in values.items()})
        (place / f"{name}.yaml").write_text(text)
    words = ["slurm", "denoise_predict", "--config_file", str(place / "there.yaml")]
    words += ["--cpus", "1", "--mem", "400", "--time", "20", "--retries", "4"]
    assert main(words) == 0
    assert main(["denoise_predict", "--config_file", str(place / "here.yaml")]) == 0
    [folder] = (place / "there" / "slurm").iterdir()
    journal = Journal.read(folder)
    failure = journal.failures["TS_1"]
    assert set(failure.earlier) == {"out of memory"}
    last = journal.submissions[-1]
    assert last.more_memory == 1.5 ** len(failure.earlier)
    log = (folder / f"array_{last.number:03d}" / "logs" / "0.log").read_text()
    share = 100 * 0.5 ** len(failure.earlier)
    assert f"Memory ran out before: tiles are planned with {share:.0f} % of it" in log
    one, other = (read_volume(place / where / "TS_1.mrc").data for where in ("here", "there"))
    np.testing.assert_allclose(one, other, atol=1e-4)
