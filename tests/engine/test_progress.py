from __future__ import annotations

import io
import logging

import pytest
from cryosiam_engine import progress
from cryosiam_engine.progress import RunProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO) -> None:
    with RunProgress(2, stream) as shown:
        for name in ("TS_01", "TS_02"):
            shown.start(name)
            for done in range(5):
                shown.tiles(done, 4)
            shown.finish()


def test_a_terminal_has_a_bar_for_the_tomogram_and_one_for_all() -> None:
    stream = Terminal()
    run(stream)
    text = stream.getvalue()
    assert "TS_01" in text
    assert "4/4" in text
    assert "2/2" in text


def test_a_log_has_plain_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    stream = io.StringIO()
    with caplog.at_level(logging.INFO, logger="cryosiam_engine"):
        run(stream)
    assert stream.getvalue() == ""
    assert any("TS_02 (2 of 2): tile 3 of 4, 75 %" in line for line in caplog.messages)


def test_a_log_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cryosiam_engine"):
        run(io.StringIO())
    assert caplog.messages == []  # it took less than the seconds between two lines
