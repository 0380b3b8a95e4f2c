"""Drills that do not disturb each other run side by side: most of their time is waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from cluster_runs import Cluster, Condition


class Start:
    """Starts the runs of one drill, each in a folder of its own.

    Attributes
    ----------
    runs
        So far.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self.runs: list[Cluster] = []

    def new_place(self) -> Path:
        """A folder in which a run may begin."""
        place = self._place / f"run {len(self.runs)}"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def __call__(self, deeds: dict[str, str], **journal: object) -> Cluster:
        """Begin a run in the folder that `new_place` gives until then."""
        self.runs.append(Cluster(self.new_place(), deeds, **journal))
        return self.runs[-1]


#: Starts its runs, and says what it waits for; in between, and at the end, it asserts.
Drill = Callable[[Start], Iterator[Condition]]


class Running:
    """One drill under way."""

    def __init__(self, drill: Drill, place: Path) -> None:
        start = Start(place)
        self._runs = start.runs
        self._steps = drill(start)
        self._waits_for: Condition = lambda: True
        self.is_over = False
        self.error: BaseException | None = None

    def step(self) -> None:
        """Look once; go on where there is what was waited for."""
        try:
            for run in self._runs:
                run.poll()
            while not self.is_over and self._waits_for():
                self._waits_for = next(self._steps)
        except StopIteration:
            self.is_over = True
        except (Exception, pytest.fail.Exception) as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the drill, and all that it has in Slurm."""
        self.is_over = True
        self.error = AssertionError("\n".join([repr(error), *(r.story() for r in self._runs)]))
        self.error.__cause__ = error
        for run in self._runs:
            run.run.cancel()


def side_by_side(
    drills: Mapping[str, Drill], place: Path, seconds: float
) -> dict[str, BaseException | None]:
    """Run drills; what became of each.

    Parameters
    ----------
    drills
        By name.
    place
        Gets a folder for each.
    seconds
        After which what is not over has failed.
    """
    running = {name: Running(drill, place / name) for name, drill in drills.items()}
    end = time.monotonic() + seconds
    while any(not one.is_over for one in running.values()):
        for one in running.values():
            if not one.is_over:
                one.step()
            if not one.is_over and time.monotonic() > end:
                one.fail(TimeoutError("the drill does not come to its end"))
        time.sleep(0.5)
    return {name: one.error for name, one in running.items()}
