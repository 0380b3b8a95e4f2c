"""How well a result agrees with the truth: volumes, labels, instances, points, clusters."""

from __future__ import annotations

from cryosiam_engine.scores.clusters import cluster_agreement
from cryosiam_engine.scores.matches import Matches
from cryosiam_engine.scores.objects import match_instances, match_points, true_partners
from cryosiam_engine.scores.volumes import correlation, dice, dice_per_class

__all__ = [
    "Matches",
    "cluster_agreement",
    "correlation",
    "dice",
    "dice_per_class",
    "match_instances",
    "match_points",
    "true_partners",
]
