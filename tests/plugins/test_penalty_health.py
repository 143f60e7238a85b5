"""avalanche_ext/plugins/penalty_health.py: which steps are looked at, and ratios."""

import pytest
import torch
from torch import nn

from avalanche_ext.penalty import QuadraticPenalty
from avalanche_ext.plugins.penalty_health import StepFigures


def test_which_steps_are_looked_at():
    figures = StepFigures()
    looked_at = [step for step in range(1, 200) if figures.begin()]
    assert looked_at == [1, 2, 4, 8, 16, 64, 128, 192]
    figures.end()
    assert figures.begin()  # the first of another experience


def test_ratios_and_when_they_are_forgotten():
    model, penalty, figures = (
        nn.Linear(2, 1, bias=False),
        QuadraticPenalty(),
        StepFigures(),
    )
    assert (figures.penalty_over_loss, figures.gradient_ratio) == (None, None)
    named = dict(model.named_parameters())
    penalty.accumulate(named, {"weight": torch.tensor([[1.0, 2.0]])})
    with torch.no_grad():
        model.weight += 1
    figures.begin()
    value = penalty(named, 0.5, lambda found: figures.add_gradients(found, named))
    figures.add_losses(value, torch.tensor(-3.0))
    (8 * (value + model(torch.tensor([[3.0, 4.0]])).sum())).backward()
    assert figures.seen
    assert figures.penalty_over_loss == pytest.approx(1.5 / 3)
    assert figures.gradient_ratio == pytest.approx(5**0.5 / 5)
    figures.end()
    assert not figures.seen
    assert figures.gradient_ratio == pytest.approx(5**0.5 / 5)  # of the last experience
    figures.begin()
    assert figures.gradient_ratio is None


def test_a_penalty_without_another_loss():
    model, penalty, figures = nn.Linear(2, 1), QuadraticPenalty(), StepFigures()
    named = dict(model.named_parameters())
    penalty.accumulate(named, {"weight": torch.ones(1, 2)})
    with torch.no_grad():
        model.weight += 1
    figures.begin()
    penalty(named, 0.5, lambda found: figures.add_gradients(found, named)).backward()
    assert figures.gradient_ratio == float("inf")
