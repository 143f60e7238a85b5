"""avalanche_ext/plugins/descent.py, and what EWC makes of it."""

from typing import Any

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from regularised import strategy
from torch import nn

from avalanche_ext import AdaptiveEWCPlugin
from avalanche_ext.plugins.descent import steepness


def test_the_entry_that_goes_farthest() -> None:
    """A rate for each group; what is in none is not moved."""
    model = nn.ModuleDict({n: nn.Linear(2, 2, bias=False) for n in "abc"})
    named = dict(model.named_parameters())
    groups = [
        {"params": [named["a.weight"]], "lr": 1.0},
        {"params": [named["b.weight"]], "momentum": 0.5},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01)
    curvature = {"a.weight": 3.0, "b.weight": 900.0, "c.weight": 1e9}
    assert steepness(optimizer, named, curvature) == (9.0, 3.0)
    assert steepness(optimizer, named, {"a.weight": 3.0}) == (3.0, 1.5)
    assert steepness(torch.optim.Adam(model.parameters()), named, curvature) is None


def test_momentum_lets_descent_follow_more() -> None:
    """A quadratic of curvature c is descended with steps up to the bound, and no more."""
    for momentum, nesterov in ((0.0, False), (0.9, False), (0.9, True), (0.3, True)):
        for share, falls in ((0.98, True), (1.02, False)):
            at = nn.Parameter(torch.ones(1, dtype=torch.float64))
            options = {"momentum": momentum, "nesterov": nesterov}
            optimizer = torch.optim.SGD([at], lr=0.5, **options)
            one = steepness(optimizer, {"at": at}, {"at": 1.0})
            assert one is not None
            for _ in range(2000):
                at.grad = share / one.danger * at.detach()
                optimizer.step()
            assert (abs(at.item()) < 1) == falls, (momentum, nesterov, share)


def longest(plugin: AdaptiveEWCPlugin, rate: float) -> float:
    """How far a step of the penalty alone brings any entry, in ways to its anchor."""
    curvature = [2 * plugin.strength * f for f in plugin.quadratic.importance.values()]
    return rate * max(float(values.max()) for values in curvature)


def distance(plugin: AdaptiveEWCPlugin, model: nn.Module) -> float:
    named = dict(model.named_parameters())
    away = [(named[n] - at).norm() for n, at in plugin.quadratic.anchor.items()]
    return float(torch.stack(away).norm())


class Falling(SupervisedPlugin):
    """A learning rate that is lowered at each step, after the penalty was added."""

    def __init__(self, plugin: AdaptiveEWCPlugin) -> None:
        super().__init__()
        self.plugin, self.steps = plugin, []

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        group = strategy.optimizer.param_groups[0]
        if self.plugin.consolidations:
            self.steps.append(longest(self.plugin, group["lr"]))
        group["lr"] *= 0.98


@pytest.mark.parametrize("balance", [True, "each"])
def test_a_balanced_strength_is_one_that_descent_can_follow(
    class_stream: Any, balance: Any
) -> None:
    """The most important entry goes back to its anchor at most; a weaker pull is not
    made stronger."""
    stream = class_stream(experiences=3).train_stream
    for given, bound in ((1e9, True), (1e-6, False)):
        plugin = AdaptiveEWCPlugin(given, balance=balance, seed=0)
        falling = Falling(plugin)
        trained = strategy([plugin, falling], train_epochs=2)
        told = "is lowered to .* or less" if bound else "next to nothing"
        with pytest.warns(UserWarning, match=told):
            trained.train(stream, eval_streams=[])
        steps = falling.steps
        assert len(steps) > 10
        assert steps == pytest.approx([float(bound)] * len(steps), abs=1e-2)
        assert (plugin.health.lowered < 0.1) == bound
        assert all(p.isfinite().all() for p in trained.model.parameters())


def test_adam_may_be_pulled_as_strongly_as_one_likes(class_stream: Any) -> None:
    plugin = AdaptiveEWCPlugin(1e9, balance=True, seed=0)
    trained = strategy([plugin], train_epochs=2)
    trained.optimizer = torch.optim.Adam(trained.model.parameters(), 1e-3)
    with pytest.warns(UserWarning, match="pulls .* as hard as the rest of the loss"):
        trained.train(class_stream(experiences=2).train_stream, eval_streams=[])
    scale = plugin.quadratic.mean_importance()
    assert plugin.strength == pytest.approx(5e8 / scale)


@pytest.mark.parametrize("boundary", ["origin", 10])
def test_a_fixed_strength_that_diverges_is_told(
    class_stream: Any, boundary: Any
) -> None:
    """As soon as there is something to hold; and it is what was asked for."""
    plugin = AdaptiveEWCPlugin(1e7, boundary=boundary, seed=0)
    trained = strategy([plugin], train_epochs=30)
    with (
        pytest.warns(UserWarning, match=r"1e\+07 is too much for .* Use .* or less"),
        pytest.warns(UserWarning, match=r"pulls .* Lower .* ewc_lambda=1e\+07"),
        pytest.raises(ValueError, match="training has diverged"),
    ):
        trained.train(class_stream(experiences=3).train_stream, eval_streams=[])
    assert (plugin.strength, plugin.health.lowered) == (5e6, 1.0)
