"""Names that the scores, the tables and the figures share."""

from __future__ import annotations

OURS = "demo model"

#: By task and method.
Results = dict[str, dict[str, float]]
