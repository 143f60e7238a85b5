"""avalanche_ext/plugins/descent.py, and what EWC makes of it."""

import re
import warnings
from typing import Any

import pytest
import torch
from regularised import strategy
from torch import nn

from avalanche_ext import AdaptiveEWCPlugin
from avalanche_ext.plugins.descent import descent_rate


def test_the_rate_of_descent() -> None:
    model = nn.Linear(2, 2)
    groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias]}]
    assert descent_rate(torch.optim.SGD(groups, lr=0.01, momentum=0.9)) == 0.1
    assert descent_rate(torch.optim.Adam(model.parameters())) is None


def longest(plugin: AdaptiveEWCPlugin, rate: float) -> float:
    """How far a step of the penalty alone brings any entry, in ways to its anchor."""
    curvature = [2 * plugin.strength * f for f in plugin.quadratic.importance.values()]
    return rate * max(float(values.max()) for values in curvature)


def distance(plugin: AdaptiveEWCPlugin, model: nn.Module) -> float:
    named = dict(model.named_parameters())
    away = [(named[n] - at).norm() for n, at in plugin.quadratic.anchor.items()]
    return float(torch.stack(away).norm())


@pytest.mark.parametrize("balance", [True, "each"])
def test_a_balanced_strength_is_one_that_descent_can_follow(
    class_stream: Any, balance: Any
) -> None:
    """The most important entry goes back to its anchor at most; a weaker pull is not
    made stronger."""
    for given, bound in ((1e9, True), (1e-6, False)):
        plugin = AdaptiveEWCPlugin(given, balance=balance, seed=0)
        trained = strategy([plugin], train_epochs=2)
        stream = class_stream(experiences=3).train_stream
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if not bound else "error")
            trained.train(stream, eval_streams=[])
        rate = trained.optimizer.param_groups[0]["lr"]
        assert longest(plugin, rate) == pytest.approx(1.0 if bound else 0.0, abs=1e-2)
        for group in trained.optimizer.param_groups:
            group["lr"] = rate / 4  # as a scheduler would
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trained.train(stream[0], eval_streams=[])
        assert longest(plugin, rate / 4) == pytest.approx(float(bound), abs=1e-2)


def test_adam_may_be_pulled_as_strongly_as_one_likes(class_stream: Any) -> None:
    plugin = AdaptiveEWCPlugin(1e9, balance=True, seed=0)
    trained = strategy([plugin], train_epochs=2)
    trained.optimizer = torch.optim.Adam(trained.model.parameters(), 1e-3)
    trained.train(class_stream(experiences=2).train_stream, eval_streams=[])
    scale = plugin.quadratic.mean_importance()
    assert plugin.strength == pytest.approx(5e8 / scale)


def test_a_fixed_strength_that_diverges_is_told(class_stream: Any) -> None:
    """And is what was asked for; the value named is the largest that a step follows."""
    stream = class_stream(experiences=3).train_stream
    plugin = AdaptiveEWCPlugin(1e7, seed=0)
    trained = strategy([plugin], train_epochs=8)
    trained.train(stream[0], eval_streams=[])
    assert plugin.strength == 5e6
    rate = trained.optimizer.param_groups[0]["lr"]
    most = f"Use {1e7 / longest(plugin, rate):.2g} or less"
    said = rf"ewc_lambda=1e\+07 is too much for .* {re.escape(most)}"
    with (
        pytest.warns(UserWarning, match=said),
        pytest.raises(ValueError, match="training has diverged"),
    ):
        trained.train(stream[1], eval_streams=[])
