"""Optimisers, momentum, weight decay and learning rate do what their keys say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from cryosiam_engine.config.train import Schedule
from cryosiam_engine.training.command import run
from cryosiam_engine.training.optimisers import optimiser_and_schedule
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from training_runs import arguments, same, training_config, weights, write_training_data

STEPS = 8


def learned(gradients: list[float], **settings: Any) -> tuple[list[float], list[float], list[Any]]:
    """The weight after each step with these gradients; learning rates and momenta of the steps."""
    weight = torch.nn.Parameter(torch.ones(1))
    made = optimiser_and_schedule([weight], Schedule(max_epochs=1, **settings), STEPS)
    optimiser, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    found: tuple[list[float], list[float], list[Any]] = ([], [], [])
    for gradient in gradients:
        (group,) = optimiser.param_groups
        found[1].append(group["lr"])
        found[2].append(group["momentum"] if "momentum" in group else group["betas"])
        weight.grad = torch.full((1,), gradient)
        optimiser.step()
        schedule.step()
        found[0].append(float(weight.detach()))
    return found


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_of_sgd_is_the_one_that_is_given(momentum: float) -> None:
    gradients = [1.0, -2.0, 0.5, 0.0, 0.0, 3.0]
    found, rates, momenta = learned(gradients, optimizer="sgd", momentum=momentum, weight_decay=0)
    assert momenta == [momentum] * 6
    weight, velocity = 1.0, 0.0
    for gradient, rate, after in zip(gradients, rates, found, strict=True):
        velocity = momentum * velocity + gradient
        weight -= rate * velocity
        assert after == pytest.approx(weight, abs=1e-6)


def test_without_momentum_it_goes_as_in_the_original() -> None:
    _, rates, momenta = learned([1.0] * 7, optimizer="sgd")
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1, momentum=0.9)
    schedule = OneCycleLR(theirs, max_lr=0.001, total_steps=STEPS, anneal_strategy="cos")
    for rate, momentum in zip(rates, momenta, strict=True):
        (group,) = theirs.param_groups
        assert (rate, momentum) == (group["lr"], group["momentum"])
        theirs.step()
        schedule.step()
    assert max(momenta) == pytest.approx(0.95)
    assert min(momenta) < 0.87


def test_momentum_is_not_for_adam(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cryosiam_engine")
    for optimizer in ("adam", "adamw"):
        given = learned([1.0, -1.0, 2.0], optimizer=optimizer, momentum=0.3)
        assert f"not for {optimizer}" in caplog.text
        caplog.clear()
        assert given == learned([1.0, -1.0, 2.0], optimizer=optimizer)
        assert not caplog.text


def test_weight_decay() -> None:
    """Of adamw apart from the gradient, of the others as a part of it."""
    nothing: list[float] = [0.0] * 3
    found, rates, _ = learned(nothing, optimizer="adamw", weight_decay=0.1)
    weight = 1.0
    for rate, after in zip(rates, found, strict=True):
        weight *= 1 - rate * 0.1
        assert after == pytest.approx(weight, abs=1e-6)
    found, rates, _ = learned(nothing, optimizer="sgd", weight_decay=0.1, momentum=0)
    assert found == pytest.approx([1 - 0.1 * sum(rates[: n + 1]) for n in range(3)], abs=1e-6)
    # Adam's steps have the length of the learning rate, however small the gradient.
    (after,), (rate,), _ = learned([0.0], optimizer="adam", weight_decay=0.1)
    assert after == pytest.approx(1 - rate, abs=1e-7)
    for optimizer in ("adam", "adamw", "sgd"):
        assert learned(nothing, optimizer=optimizer, weight_decay=0)[0] == [1.0] * 3


def test_trainings_differ_by_their_optimiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data = write_training_data(tmp_path / "data", 2)
    schedules: dict[str, dict[str, Any]] = {
        "adamw": {"optimizer": "adamw"},
        "adam": {"optimizer": "adam", "weight_decay": 0.1},
        "sgd": {"optimizer": "sgd"},
        "sgd, momentum": {"optimizer": "sgd", "momentum": 0.2},
        "sgd, more momentum": {"optimizer": "sgd", "momentum": 0.8},
        "adamw, decay": {"optimizer": "adamw", "weight_decay": 0.1},
    }
    found: dict[str, dict[str, Tensor]] = {}
    for name, schedule in schedules.items():
        log = tmp_path / name
        run(training_config(data, log, schedule={"max_epochs": 1, **schedule}), arguments())
        found[name] = weights(log)
    names = [*found]
    for number, name in enumerate(names):
        assert not any(same(found[name], found[other]) for other in names[number + 1 :])
