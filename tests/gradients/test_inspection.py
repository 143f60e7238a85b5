"""Inspections: what they say, when they hold."""

import pytest
import small_networks as networks
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext.gradients import fallback, gradient_norms, inspect_gradients


def test_it_says_how_each_gradient_is_computed() -> None:
    torch.manual_seed(0)
    found = inspect_gradients(networks.Twice(), torch.randn(4, 6))
    assert str(found).splitlines() == [
        "head.bias: formula",
        "head.weight: formula",
        "layer.bias: vmap (42 numbers a row), since its layer is called 2 times",
        "layer.weight: vmap (42 numbers a row), since its layer is called 2 times",
    ]


def test_many_numbers_are_taken_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "_VMAP_NUMBERS", 41)
    found = inspect_gradients(networks.Twice(), torch.randn(4, 6))
    assert found.way == "loop"


class Deciding(networks.Twice):
    """What it does depends on its input's value."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.sum()) > 0 else -x)


def test_what_vmap_does_not_know_is_taken_row_by_row() -> None:
    x = torch.rand(4, 6)
    found = inspect_gradients(Deciding(), x)
    assert found.way == "loop"
    assert found.reason.startswith("vmap: ")
    attention = inspect_gradients(networks.Attention(), torch.randn(4, 5, 8))
    assert attention.way == "vmap"


def test_a_criterion_that_vmap_does_not_know() -> None:
    torch.manual_seed(0)
    model, x, y = networks.Twice(), torch.randn(4, 6), torch.arange(4)

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target) * (1 + float(target.sum()))

    assert inspect_gradients(model, x).way == "vmap"
    found = gradient_norms(model, criterion, x, y)
    expected = gradient_norms(model, F.cross_entropy, x, y) * (1 + y)
    torch.testing.assert_close(found, expected)


def test_rows_that_depend_on_each_other() -> None:
    assert not inspect_gradients(networks.Centred(), torch.randn(4, 6)).independent
    assert inspect_gradients(networks.mlp(), torch.randn(4, 6)).independent


def test_it_costs_no_pass_when_it_is_handed_on() -> None:
    model, x, y = networks.mlp(), torch.randn(5, 6), torch.arange(5) % 4
    inspection = inspect_gradients(model, x)
    calls = []
    model.register_forward_pre_hook(lambda model, args: calls.append(len(args[0])))
    gradient_norms(model, F.cross_entropy, x, y, inspection=inspection)
    assert calls == [5]
    calls.clear()
    model[0] = nn.Linear(6, 5, bias=False)
    gradient_norms(model, F.cross_entropy, x, y, inspection=inspection)
    assert len(calls) > 1


def test_one_row_of_each_task_is_used() -> None:
    seen: list[Tensor] = []

    class MultiTaskModule(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x: Tensor, task: Tensor) -> Tensor:
            seen.append(task)
            output: Tensor = self.layer(x)
            return output

    task = torch.tensor([0] * 50 + [7] * 40 + [2] * 10)
    inspect_gradients(MultiTaskModule(), torch.randn(100, 6), task)
    assert seen[0].tolist() == [0, 0, 0, 7, 2]


def test_zero_weights_and_dead_layers() -> None:
    torch.manual_seed(0)
    model = networks.mlp()
    nn.init.zeros_(model[3].weight)
    x, y = torch.randn(5, 6), torch.arange(5) % 4
    inspection = inspect_gradients(model, x)
    assert not inspection.refused
    nn.init.ones_(model[3].weight)
    found = gradient_norms(model, F.cross_entropy, x, y, inspection=inspection)
    expected = gradient_norms(model, F.cross_entropy, x, y)
    torch.testing.assert_close(found, expected)


def test_a_model_that_has_diverged() -> None:
    """Its gradients are no numbers, which is no error of theirs."""
    model = networks.mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
        model[0].weight[1, 0] = torch.inf
    x, y = torch.randn(4, 6), torch.arange(4) % 3
    assert not inspect_gradients(model, x).refused
    assert gradient_norms(model, F.cross_entropy, x, y).isnan().all()
