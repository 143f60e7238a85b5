"""Regularisers in a loop of one's own, which tells them less than a strategy does."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from avalanche.models import MTSimpleMLP
from regularised import strategy
from regularised_loop import X, Y, both, network, renew
from torch import Tensor, nn

from avalanche_ext import AdaptiveEWCPlugin


def train(
    model: nn.Module, penalty: Callable[..., Any], steps: int = 5, rate: float = 0.1
) -> None:
    """Some steps of gradient descent.

    :param penalty: of the model and the optimizer.
    """
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y) + penalty(model, optimizer)
        loss.backward()
        optimizer.step()


def of_model(plugin: Any) -> Callable[..., Tensor]:
    return lambda model, _: plugin.penalty(model)


# The optimizer


@pytest.mark.parametrize("balance", [True, "each"])
def test_with_its_optimizer_a_balanced_strength_can_be_followed(balance: Any) -> None:
    """As in a strategy; at the limit the most important entry goes back in one step."""
    plugin, model = AdaptiveEWCPlugin(1.0, balance=balance), network()
    for _ in range(3):
        train(model, plugin.penalty, rate=1.0)
        renew(plugin, model)
    train(model, plugin.penalty, rate=1.0)
    assert plugin.health.lowered < 1
    largest = max(float(f.max()) for f in plugin.quadratic.importance.values())
    assert 2 * plugin.strength * largest == pytest.approx(1.0)
    assert all(p.isfinite().all() for p in model.parameters())


def test_without_it_divergence_is_told_with_what_helps() -> None:
    plugin, model = AdaptiveEWCPlugin(1e6, balance=True), network()
    train(model, of_model(plugin))
    renew(plugin, model)
    helps = r"penalty\(model, optimizer\) lowers it"
    with pytest.warns(UserWarning, match=f"pulls .* {helps}"):
        train(model, of_model(plugin), steps=60)
    with pytest.raises(ValueError, match=f"diverged: .*ewc_lambda=1e\\+06; {helps}"):
        renew(plugin, model)


def test_with_it_a_fixed_strength_that_diverges_is_told() -> None:
    plugin, model = AdaptiveEWCPlugin(1e6), network()
    train(model, plugin.penalty)
    renew(plugin, model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.warns(UserWarning, match=r"too much for gradient descent .* Use"):
        plugin.penalty(model, optimizer)
    assert plugin.strength == 5e5


# What a loop may forget


def test_a_penalty_that_was_not_asked_for_is_told() -> None:
    plugin, model = AdaptiveEWCPlugin(1.0), network()
    train(model, of_model(plugin))
    renew(plugin, model)
    renew(plugin, model)  # nothing was trained meanwhile
    train(model, lambda *_: 0.0)
    with pytest.warns(UserWarning, match=r"penalty\(\) was not called: add penalty"):
        renew(plugin, model)


@both
def test_another_model_is_told(make: Any) -> None:
    plugin, model = make(), network()
    train(model, of_model(plugin))
    renew(plugin, model)
    torch.manual_seed(1)
    other = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    with torch.no_grad():
        assert plugin.penalty(other) > 0  # to be looked at
    with pytest.warns(UserWarning, match=r"another model's parameters.* new plugin"):
        plugin.penalty(other)


@both
@pytest.mark.parametrize("of", ["head", "copy"])
def test_the_same_model_in_other_objects_is_none(make: Any, of: str) -> None:
    plugin, model = make(include="1"), network()
    train(model, of_model(plugin))
    renew(plugin, model)
    if of == "copy":
        model = copy.deepcopy(model)
    else:
        head, old = nn.Linear(4, 3), model[1]
        with torch.no_grad():
            head.weight[:2], head.bias[:2] = old.weight, old.bias
        model[1] = head
    train(model, of_model(plugin))  # warnings are errors
    assert plugin.health.gradient_ratio > 0


def test_task_labels_that_are_missing_are_asked_for() -> None:
    model = MTSimpleMLP(input_size=6, hidden_size=4)
    with pytest.raises(ValueError, match=r"batch 0 is \[Tensor, Tensor\].* y, …, task"):
        AdaptiveEWCPlugin(1.0).update(model, [(X, Y)])


# Figures and gradients


@both
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_penalty_has_a_backward_pass_of_its_own(make: Any, strength: float) -> None:
    """Before there is anything to hold, too."""
    model = network()
    F.cross_entropy(model(X), Y).backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    make(strength).penalty(model).backward()
    after = [p.grad for p in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def by_grad(plugin: Any, model: nn.Module) -> None:
    """Steps whose gradients are asked for, and put in place by hand."""
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, 0.1)
    for _ in range(5):
        loss = F.cross_entropy(model(X), Y) + plugin.penalty(model)
        found = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient
        optimizer.step()


def looked_at(plugin: Any, model: nn.Module) -> None:
    """Steps after each of which the penalty is looked at, with gradients."""
    for _ in range(5):
        train(model, of_model(plugin), steps=1)
        plugin.penalty(model).item()


@pytest.mark.parametrize("steps", [by_grad, looked_at])
def test_figures_that_are_not_known_are_none(steps: Callable[..., None]) -> None:
    plugin, model = AdaptiveEWCPlugin(1.0), network()
    train(model, of_model(plugin))
    renew(plugin, model)
    reference, ratio = copy.deepcopy(model), copy.deepcopy(plugin)
    train(reference, of_model(ratio))
    steps(plugin, model)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert ratio.health.gradient_ratio > 0
    assert plugin.health.gradient_ratio is None


# Importances that are none


@pytest.mark.parametrize("value", [float("nan"), 1e25])
def test_a_fisher_information_that_is_not_finite_is_refused(value: float) -> None:
    """And nothing of it is taken over."""
    plugin, model = AdaptiveEWCPlugin(1.0, balance=True, seed=0), network()
    train(model, of_model(plugin))
    renew(plugin, model)
    before = copy.deepcopy(plugin.state_dict())
    x = X.clone()
    x[3, 2] = value
    with pytest.raises(
        ValueError, match=r"information of 0\.weight is not finite.* rows"
    ):
        plugin.update(model, [(x, Y)])
    now = plugin.state_dict()
    assert now.keys() == before.keys()
    for name in before.keys() - {"penalty"}:
        assert now[name] == before[name]
    for name, values in before["penalty"]["importance"].items():
        assert torch.equal(now["penalty"]["importance"][name], values)


def test_one_output_is_named_as_a_cause_of_none() -> None:
    model = network(outputs=1)
    with pytest.warns(
        UserWarning, match=r"exact labels, 8 rows.* one output.* criterion"
    ):
        AdaptiveEWCPlugin(1.0).update(model, [(X, Y)])
    plugin = AdaptiveEWCPlugin(1.0, labels="empirical")
    plugin.update(model, [(X, Y[:, None].float())], criterion=F.mse_loss)
    assert plugin.health.nonzero > 0


@pytest.mark.parametrize("boundary", [7, 1000])
def test_a_boundary_out_of_reach_is_told(class_stream: Any, boundary: int) -> None:
    """One that several experiences reach together is none."""
    plugin = AdaptiveEWCPlugin(1.0, boundary=boundary)
    trained = strategy([plugin])
    stream = class_stream(experiences=4).train_stream  # of five iterations each
    if boundary == 7:
        trained.train(stream, eval_streams=[])  # warnings are errors
        assert plugin.consolidations == 2
        return
    with pytest.warns(UserWarning, match=r"1000 iterations were not .* together 10,"):
        trained.train(stream, eval_streams=[])
    assert not plugin.consolidations


def test_a_loop_that_diverges_with_its_optimizer_is_not_told_to_give_it() -> None:
    """In the first experience, too, where there is nothing to be lowered yet."""
    plugin, model = AdaptiveEWCPlugin(1.0, balance=True), network()
    train(model, plugin.penalty, rate=float("inf"))
    with pytest.raises(ValueError, match=r"or ewc_lambda=1$"):
        renew(plugin, model)
