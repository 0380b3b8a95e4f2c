"""Where no Slurm can be started: on a CI server that is no reason to pass."""

from __future__ import annotations

import pytest
import shared_cluster
from shared_cluster import running_cluster


@pytest.mark.parametrize(("ci", "outcome"), [("true", "Failed"), ("1", "Failed"), ("", "Skipped")])
def test_without_a_slurm(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: str) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(shared_cluster.os, "getuid", lambda: 1000)
    with pytest.raises(BaseException, match="by root only") as raised, running_cluster():
        pass
    assert type(raised.value).__name__ == outcome
