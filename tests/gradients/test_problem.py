"""Nothing is left behind, and what is around does not matter."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import small_networks as networks
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext.gradients import (
    diagonal_fisher,
    gradient_cosines,
    gradient_norms,
    gradient_vectors,
    group_gradients,
)

ROWS = 6


class Mixed(nn.Module):
    """Batch norm and dropout, a layer that is called twice, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.second = networks.Twice()
        self.second.head.bias.requires_grad_(False)
        self.fail = False

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        if self.fail:
            raise RuntimeError("the model failed")
        return out


def state(model: nn.Module) -> dict[str, Any]:
    """All that a model's modules hold, at their place."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            found[f"{name}.{key}"] = (
                dict(value) if isinstance(value, dict) else copy.copy(value)
            )
    for name, parameter in model.named_parameters():
        found[f"{name} itself"] = parameter.requires_grad, parameter._backward_hooks
        found[f"{name} values"] = parameter.detach().clone()
        found[f"{name} gradient"] = parameter.grad
    for name, buffer in model.named_buffers():
        found[f"{name} values"] = buffer.clone()
    return found


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a is b or torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


Call = Callable[[nn.Module, Tensor, Tensor], Any]
CALLS: dict[str, Call] = {
    "norms": lambda m, x, y: gradient_norms(m, F.cross_entropy, x, y),
    "last": lambda m, x, y: gradient_norms(m, F.cross_entropy, x, y, parameters="last"),
    "fisher": lambda m, x, y: diagonal_fisher(m, x, y, labels="empirical"),
    "exact": lambda m, x, y: diagonal_fisher(m, x, labels="exact"),
    "vectors": lambda m, x, y: gradient_vectors(m, F.cross_entropy, x, y),
    "groups": lambda m, x, y: group_gradients(m, F.cross_entropy, x, y, y),
    "cosines": lambda m, x, y: gradient_cosines(m, F.cross_entropy, x, y),
}


@pytest.fixture
def batch() -> tuple[Mixed, Tensor, Tensor]:
    torch.manual_seed(0)
    model, x, y = Mixed(), torch.randn(ROWS, 6), torch.arange(ROWS) % 4
    model.first[2].eval()  # modes differ by module
    model.second.layer.weight.grad = torch.randn(6, 6)
    return model, x, y


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_left_behind(name: str, batch: Any) -> None:
    model, x, y = batch
    before, numbers = state(model), torch.get_rng_state()
    result = CALLS[name](model, x, y)
    after = state(model)
    assert [key for key in before if not same(before[key], after[key])] == []
    assert list(after) == list(before)
    assert torch.equal(numbers, torch.get_rng_state())
    values = result.values() if isinstance(result, dict) else [result]
    assert not any(value.requires_grad for value in values)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_left_behind_by_a_failure(name: str, batch: Any) -> None:
    model, x, y = batch
    model.fail = True
    before = state(model)
    with pytest.raises(RuntimeError, match="the model failed"):
        CALLS[name](model, x, y)
    after = state(model)
    assert [key for key in before if not same(before[key], after[key])] == []


def test_nothing_is_left_behind_by_a_bad_criterion(batch: Any) -> None:
    model, x, y = batch
    before = state(model)

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        raise RuntimeError("the criterion failed")

    with pytest.raises(RuntimeError, match="the criterion failed"):
        gradient_norms(model, criterion, x, y)
    after = state(model)
    assert [key for key in before if not same(before[key], after[key])] == []


@pytest.mark.parametrize(
    "around",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
    ],
    ids=["no_grad", "inference_mode", "autocast"],
)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_around_does_not_matter(
    around: Callable[[], AbstractContextManager[Any]], name: str, batch: Any
) -> None:
    model, x, y = batch
    expected = CALLS[name](model, x, y)
    with around():
        found = CALLS[name](model, x + 0, y + 0)
        assert torch.is_inference_mode_enabled() == (around is torch.inference_mode)
    if isinstance(expected, dict):
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    else:
        assert torch.equal(expected, found)


def test_inputs_that_need_gradients_get_none(batch: Any) -> None:
    model, x, y = batch
    expected = gradient_norms(model, F.cross_entropy, x, y)
    x.requires_grad_()
    assert torch.equal(gradient_norms(model, F.cross_entropy, x * 1, y), expected)
    assert x.grad is None


def test_hooks_of_others_stay_and_are_called(batch: Any) -> None:
    model, x, y = batch
    layer = model.second.head
    doubled = layer.register_forward_hook(lambda module, args, output: 2 * output)
    found = gradient_norms(model, F.cross_entropy, x, y)
    doubled.remove()
    expected = gradient_norms(
        model, lambda output, target: F.cross_entropy(2 * output, target), x, y
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
