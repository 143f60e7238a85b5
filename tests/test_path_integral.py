"""avalanche_ext/path_integral.py against the integral written out."""

import io
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext.parameters import ParameterSelection
from avalanche_ext.path_integral import PathIntegral
from avalanche_ext.penalty import QuadraticPenalty

pytestmark = pytest.mark.usefixtures("passes")

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def data(rows: int = 20) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 6), torch.randint(0, 3, (rows,))


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_it_is_the_integral_written_out(optimizer: str, scale: float) -> None:
    """Over 200 steps, with a penalty that is no part of it and clipped gradients."""
    model = network()
    names = dict(model.named_parameters())
    chooser, penalty, path = ParameterSelection(), QuadraticPenalty(), PathIntegral()
    penalty.accumulate(names, {n: torch.rand_like(p) for n, p in names.items()})
    steps = OPTIMIZERS[optimizer](model.parameters())
    expected = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in names.items()}
    torch.manual_seed(1)
    for _ in range(200):
        x, y = data()
        gradients = torch.autograd.grad(
            F.cross_entropy(model(x), y), list(names.values())
        )
        before = values(model)
        steps.zero_grad()
        named = chooser.of(model)
        loss = F.cross_entropy(model(x), y)
        loss = loss + penalty(named, 0.1, path.record, path.begin(named))
        (loss * scale).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad /= scale
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        steps.step()
        for (name, now), gradient in zip(values(model).items(), gradients, strict=True):
            moved = now.double() - before[name].double()
            expected[name] -= gradient.double() * moved
    path.advance(chooser.of(model))
    for name, integral in expected.items():
        error = (path.integral[name] - integral).norm() / integral.norm()
        assert error < 1e-5, name
    importance = path.importance(chooser.of(model), 0.1)
    for name, now in values(model).items():
        away = (now - path.start[name]) ** 2
        torch.testing.assert_close(
            importance[name], path.integral[name] / (away + 0.1), rtol=1e-6, atol=0
        )


def test_its_sum_is_what_the_loss_decreased_by() -> None:
    """Full batch and small steps; the path integral's conservation law."""
    model = network().double()
    torch.manual_seed(1)
    x, y = torch.randn(50, 6).double(), torch.randint(0, 3, (50,))
    chooser, penalty, path = ParameterSelection(), QuadraticPenalty(), PathIntegral()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    first = F.cross_entropy(model(x), y).item()
    for _ in range(500):
        optimizer.zero_grad()
        named = chooser.of(model)
        path.advance(named)
        loss = F.cross_entropy(model(x), y)
        (loss + penalty(named, 1.0, path.record, path.begin(named))).backward()
        optimizer.step()
    path.advance(chooser.of(model))
    decrease = first - F.cross_entropy(model(x), y).item()
    assert decrease > 0.1
    assert abs(path.total() - decrease) < 0.01 * decrease


def step(model: nn.Module, path: PathIntegral, chooser: ParameterSelection) -> None:
    """A step of descent by 0.1 on the sum of all outputs for a row of ones."""
    model.zero_grad()
    named = chooser.of(model)
    path.advance(named)
    inputs = next(model.parameters()).shape[1]
    loss = model(torch.ones(1, inputs)).sum() + QuadraticPenalty()(
        named, 1.0, path.record
    )
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad


def test_a_parameter_that_grows() -> None:
    model, path, chooser = nn.Linear(3, 2), PathIntegral(), ParameterSelection()
    step(model, path, chooser)
    larger = nn.Linear(3, 4)
    with torch.no_grad():
        larger.weight[:2], larger.bias[:2] = model.weight, model.bias
    start = larger.weight.detach().clone()
    step(larger, path, chooser)
    path.advance(chooser.of(larger))
    torch.testing.assert_close(
        path.integral["bias"], torch.tensor([0.2, 0.2, 0.1, 0.1])
    )
    torch.testing.assert_close(path.start["weight"][2:], start[2:])
    torch.testing.assert_close(path.start["weight"][:2], start[:2] + 0.1)


def test_unused_and_frozen_parameters() -> None:
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    model.forward = lambda x: model[0](x)
    path, chooser = PathIntegral(), ParameterSelection()
    step(model, path, chooser)
    model[0].bias.requires_grad_(False)
    step(model, path, chooser)
    path.advance(chooser.of(model))
    assert not path.integral["1.weight"].any()
    torch.testing.assert_close(path.integral["0.weight"], torch.full((2, 3), 0.2))
    torch.testing.assert_close(path.integral["0.bias"], torch.full((2,), 0.1))


def test_a_step_that_overflowed_counts_nothing() -> None:
    model, path, chooser = nn.Linear(3, 2), PathIntegral(), ParameterSelection()
    named = chooser.of(model)
    path.advance(named)
    loss = model(torch.ones(1, 3)).sum() + QuadraticPenalty()(named, 1.0, path.record)
    (loss * float("inf")).backward()  # and a scaler skips the step
    path.advance(chooser.of(model))
    assert path.total() == 0


def test_a_pass_that_leaves_no_gradients_is_no_step() -> None:
    model, path, chooser = nn.Linear(3, 2), PathIntegral(), ParameterSelection()
    named = chooser.of(model)
    path.advance(named)
    loss = model(torch.ones(1, 3)).sum() + QuadraticPenalty()(named, 1.0, path.record)
    torch.autograd.grad(loss, list(named.values()))
    with torch.no_grad():
        model.weight += 1
    path.advance(named)
    assert path.total() == 0


def test_state_round_trip_with_a_step_under_way() -> None:
    model, path, chooser = nn.Linear(3, 2), PathIntegral(), ParameterSelection()
    for _ in range(3):
        step(model, path, chooser)
    file = io.BytesIO()
    torch.save(path.state_dict(), file)
    file.seek(0)
    loaded = PathIntegral()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for integral in (path, loaded):
        integral.advance(chooser.of(model))
    torch.testing.assert_close(loaded.integral["weight"], torch.full((2, 3), 0.3))
    assert torch.equal(loaded.integral["weight"], path.integral["weight"])
    assert torch.equal(loaded.start["weight"], path.start["weight"])
    with pytest.raises(ValueError, match="must have an integral and a start"):
        loaded.load_state_dict({"integral": {}})


@pytest.mark.parametrize("last", [True, False], ids=["last", "first"])
def test_gradients_are_not_the_memory_of_the_slopes(
    last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not either of a parameter that no other loss depends on; what is done to a gradient
    after the backward pass is no part of the integral. In whatever order autograd adds.
    """
    if not last:
        monkeypatch.setattr("avalanche_ext.penalty_node._last", lambda node: None)
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "not": nn.Linear(3, 2)})
    named, penalty = dict(model.named_parameters()), QuadraticPenalty()
    penalty.accumulate(named, {n: torch.ones_like(p) for n, p in named.items()})
    with torch.no_grad():
        for parameter in named.values():
            parameter += 0.5
    path = PathIntegral()
    for _ in range(2):  # the second one takes the pass that does both
        model.zero_grad()
        steps = path.begin(named)
        loss = model["used"](torch.ones(1, 3)).sum()
        (loss + penalty(named, 2.0, path.record, steps)).backward()
        memory = {step.slope.data_ptr() for step in steps.values()}
        for name, parameter in named.items():
            assert parameter.grad is not None
            assert parameter.grad.data_ptr() not in memory
            own, task = 2 * 2.0 * 0.5, 1.0 * ("used" in name)
            assert torch.allclose(parameter.grad, torch.tensor(own + task)), name
            parameter.grad.zero_()
            assert torch.allclose(steps[name].slope, torch.tensor(-task)), name


def test_a_state_is_taken_over_as_a_copy() -> None:
    """In the middle of a step; what goes on from it leaves it as it was."""
    model, path, chooser = nn.Linear(3, 2), PathIntegral(), ParameterSelection()
    for _ in range(2):
        step(model, path, chooser)
    state = path.state_dict()
    before = {
        part: {name: tensor.clone() for name, tensor in kept.items()}
        for part, kept in state.items()
    }
    assert set(before) == {"integral", "start", "last", "slope"}
    path = PathIntegral()
    path.load_state_dict(state)
    for _ in range(3):
        step(model, path, chooser)
    path.advance(chooser.of(model))
    assert not torch.equal(path.integral["weight"], before["integral"]["weight"])
    for part, kept in before.items():
        for name, tensor in kept.items():
            assert torch.equal(state[part][name], tensor), (part, name)
