"""Regularisers where parameters change their memory, or passes are repeated."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext import AdaptiveEWCPlugin, SynapticIntelligencePlugin
from avalanche_ext.parameters import ParameterSelection
from avalanche_ext.path_integral import PathIntegral
from avalanche_ext.penalty import QuadraticPenalty

pytestmark = pytest.mark.usefixtures("passes")

X = torch.linspace(-1, 1, 24).view(8, 3).sin()
Y = torch.arange(8) % 2


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def in_place(model: nn.Module, rate: float) -> None:
    with torch.no_grad():
        for p in model.parameters():
            assert p.grad is not None
            p -= rate * p.grad


def by_vector(model: nn.Module, rate: float) -> None:
    ps = list(model.parameters())
    steps = torch.cat([p.grad.flatten() for p in ps if p.grad is not None])
    values = nn.utils.parameters_to_vector(ps).detach() - rate * steps
    nn.utils.vector_to_parameters(values, ps)


def by_data(model: nn.Module, rate: float) -> None:
    for p in model.parameters():
        assert p.grad is not None
        p.data = p.data - rate * p.grad


@pytest.mark.parametrize("descend", [by_vector, by_data])
def test_a_step_may_put_parameters_elsewhere(descend: Callable[..., None]) -> None:
    found = []
    for step in (in_place, descend):
        model, si = network(), SynapticIntelligencePlugin(1.0)
        for _ in range(2):  # experiences
            for _ in range(5):
                model.zero_grad()
                (F.cross_entropy(model(X), Y) + si.penalty(model)).backward()
                step(model, 0.5)
            si.update(model)
        found.append(si.quadratic.importance)
    for name, expected in found[0].items():
        assert expected.abs().sum() > 0
        torch.testing.assert_close(found[1][name], expected, rtol=1e-4, atol=1e-6)


def test_data_of_another_layout_or_shape() -> None:
    layer, penalty, chooser = nn.Linear(3, 3), QuadraticPenalty(), ParameterSelection()
    penalty.accumulate(chooser.of(layer), {"weight": torch.arange(9.0).view(3, 3)})
    anchor = layer.weight.detach().clone()
    penalty(chooser.of(layer), 1.0)
    layer.weight.data = layer.weight.data.t()
    expected = (torch.arange(9.0).view(3, 3) * (anchor.t() - anchor) ** 2).sum()
    torch.testing.assert_close(penalty(chooser.of(layer), 1.0), expected)
    layer.weight.data = layer.weight.data[:2]
    with pytest.raises(ValueError, match=r"shape \(3, 3\) and cannot grow to \(2, 3\)"):
        penalty(chooser.of(layer), 1.0)


def test_a_second_pass_through_a_graph_that_was_kept() -> None:
    """Its gradient is that of the step, and so is what is recorded."""
    model, penalty, path = network(), QuadraticPenalty(), PathIntegral()
    named = dict(model.named_parameters())
    penalty.accumulate(named, {n: torch.ones_like(p) for n, p in named.items()})
    in_place_by(named, 0.3)
    (task,) = [torch.autograd.grad(F.cross_entropy(model(X), Y), list(named.values()))]
    steps = path.begin(named)
    loss = F.cross_entropy(model(X), Y) + penalty(named, 1.0, path.record, steps)
    loss.backward(retain_graph=True)
    first = {n: p.grad.clone() for n, p in named.items() if p.grad is not None}
    model.zero_grad()
    loss.backward()
    for (name, parameter), gradient in zip(named.items(), task, strict=True):
        torch.testing.assert_close(parameter.grad, first[name])
        torch.testing.assert_close(steps[name].slope, -gradient)


def in_place_by(named: dict[str, nn.Parameter], amount: float) -> None:
    with torch.no_grad():
        for parameter in named.values():
            parameter += amount


def test_half_precision_under_a_large_scale() -> None:
    layer = nn.Linear(3, 2).half()
    path, named = PathIntegral(), dict(layer.named_parameters())
    steps = path.begin(named)
    penalty = QuadraticPenalty()(named, 1.0, path.record, steps)
    loss = (layer.weight.float() * 2.0**-10).sum() + layer.bias.float().sum() * 2.0**-10
    ((loss + penalty) * 2.0**17).backward()  # which half precision does not have
    for step in steps.values():
        assert torch.equal(step.slope, torch.full_like(step.slope, -(2.0**-10)))


@pytest.mark.parametrize("plugin", [AdaptiveEWCPlugin, SynapticIntelligencePlugin])
def test_looked_at_under_inference_mode_before_it_is_trained(plugin: Any) -> None:
    model, regulariser = network(), plugin(1.0)
    step(model, regulariser)
    end(model, regulariser)
    with torch.inference_mode():
        regulariser.penalty(model)
    step(model, regulariser)
    assert all(p.grad is not None for p in model.parameters())


def step(model: nn.Module, regulariser: Any) -> Tensor:
    model.zero_grad()
    loss: Tensor = F.cross_entropy(model(X), Y) + regulariser.penalty(model)
    loss.backward()
    in_place(model, 0.1)
    return loss


def end(model: nn.Module, regulariser: Any) -> None:
    if isinstance(regulariser, AdaptiveEWCPlugin):
        regulariser.update(model, [(X, Y)])
    else:
        regulariser.update(model)


@pytest.mark.parametrize("plugin", [AdaptiveEWCPlugin, SynapticIntelligencePlugin])
def test_a_parameter_without_entries(plugin: Any) -> None:
    model, regulariser = network(), plugin(1.0)
    model.register_parameter("none", nn.Parameter(torch.zeros(0, 3)))
    for _ in range(2):
        for _ in range(3):
            model.zero_grad()
            loss = F.cross_entropy(model(X), Y) + model.none.sum()
            (loss + regulariser.penalty(model)).backward()
            in_place(model, 0.1)
        end(model, regulariser)
    assert regulariser.health.nonzero > 0
    assert copy.deepcopy(regulariser).quadratic.importance["none"].shape == (0, 3)
