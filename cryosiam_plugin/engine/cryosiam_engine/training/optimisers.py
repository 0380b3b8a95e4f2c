"""Optimiser and learning rate, as the configuration names them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from cryosiam_engine.config.train import Schedule

logger = logging.getLogger(__name__)

#: The schedule rises and falls; fewer steps have no room for that.
_FEWEST_STEPS = 4


def optimiser_and_schedule(
    parameters: Sequence[nn.Parameter], settings: Schedule, n_steps: int
) -> dict[str, Any]:
    """Make both, in the form that Lightning wants.

    Parameters
    ----------
    parameters
        What learns.
    settings
        ``hyper_parameters``.
    n_steps
        Of the whole training: the learning rate rises to ``lr`` and falls to nearly nothing over
        them (one cycle, cosine). Momentum goes the other way, unless the settings name one.
    """
    if settings.momentum is not None and settings.optimizer != "sgd":
        logger.info(
            "hyper_parameters.momentum has no effect: it is for the optimizer sgd, not for %s.",
            settings.optimizer,
        )
    schedule = OneCycleLR(
        _optimiser(parameters, settings),
        max_lr=settings.lr,
        total_steps=schedule_steps(n_steps),
        anneal_strategy="cos",
        cycle_momentum=settings.optimizer != "sgd" or settings.momentum is None,
    )
    return {
        "optimizer": schedule.optimizer,
        "lr_scheduler": {"scheduler": schedule, "interval": "step"},
    }


def schedule_steps(n_steps: int) -> int:
    """Steps of the schedule of a training of `n_steps`."""
    return max(n_steps, _FEWEST_STEPS)


def _optimiser(parameters: Sequence[nn.Parameter], settings: Schedule) -> Optimizer:
    rate, decay = settings.lr, settings.weight_decay
    if settings.optimizer == "sgd":
        return SGD(parameters, rate, settings.momentum or 0.0, weight_decay=decay)
    kind = Adam if settings.optimizer == "adam" else AdamW
    return kind(parameters, rate, weight_decay=decay)
