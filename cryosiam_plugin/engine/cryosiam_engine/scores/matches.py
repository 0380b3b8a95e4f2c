"""Counts of objects that were found, and the scores that follow from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Matches:
    """How many true and predicted objects found a partner.

    Matches of several tomograms are added: objects then count alike, wherever they are.

    Parameters
    ----------
    matched
        Pairs of one true and one predicted object.
    spurious
        Predicted objects without a partner.
    missed
        True objects without a partner.
    """

    matched: int
    spurious: int
    missed: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.matched + other.matched,
            self.spurious + other.spurious,
            self.missed + other.missed,
        )

    @property
    def average_precision(self) -> float:
        """Matched over all: 1 if every object is found and nothing else; 1 for none and none."""
        return _share(self.matched, self.matched + self.spurious + self.missed)

    @property
    def precision(self) -> float:
        """Matched over predicted objects; 1 where nothing was predicted."""
        return _share(self.matched, self.matched + self.spurious)

    @property
    def recall(self) -> float:
        """Matched over true objects; 1 where there are none."""
        return _share(self.matched, self.matched + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 for none and none."""
        return _share(2 * self.matched, 2 * self.matched + self.spurious + self.missed)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
