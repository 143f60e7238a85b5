"""avalanche_ext/plugins/memory_loss.py against its formula, one row after the other."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.plugins.memory_loss import MemoryLoss, own_criterion, weights_of

ROWS, CLASSES = 7, 4
CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.5], dtype=torch.float64)
IMPORTANCE = torch.tensor([0.4, 2.5, 1.0])
SPANS = {"last": (4, 7), "another memory was asked later": (2, 5)}


class Own(nn.Module):
    """A criterion of a user's, which says nothing of how it reduces."""

    def forward(self, output, target):
        return cross_entropy(output, target)


CRITERIA = {
    "mean": (nn.CrossEntropyLoss(), None),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), None),
    "class weights": (nn.CrossEntropyLoss(CLASS_WEIGHTS), CLASS_WEIGHTS),
    "class weights, sum": (
        nn.CrossEntropyLoss(CLASS_WEIGHTS, reduction="sum"),
        CLASS_WEIGHTS,
    ),
    "function": (cross_entropy, None),
    "function that sums": (partial(cross_entropy, reduction="sum"), None),
    "of a user": (Own(), None),
}


def batch():
    draw = torch.Generator().manual_seed(1)
    output = torch.randn(ROWS, CLASSES, generator=draw, dtype=torch.float64)
    return output.requires_grad_(), torch.tensor([3, 0, 2, 2, 1, 0, 3])


def written_out(output, target, rows, class_weights, sums, importance):
    """The loss of some rows: by torch's definition, or by importance."""
    total, divisor = torch.zeros((), dtype=torch.float64), 0.0
    for place, row in enumerate(rows):
        y = int(target[row])
        weight = 1.0 if class_weights is None else float(class_weights[y])
        loss = weight * (torch.exp(output[row]).sum().log() - output[row, y])
        if importance is None:
            total, divisor = total + loss, divisor + weight
        else:
            total, divisor = total + float(importance[place]) * loss, divisor + 1.0
    return total if sums else total / divisor


def expected(name, output, target, span, weights, importance):
    """``c · criterion(all other rows) + r · criterion(rows of one memory)``."""
    class_weights, sums = CRITERIA[name][1], name.endswith(("sum", "sums"))
    own = list(range(*span))
    rest = [row for row in range(ROWS) if row not in own]
    if weights is None:
        weights = (1.0, 1.0) if sums else (len(rest) / ROWS, len(own) / ROWS)
    return weights[0] * written_out(
        output, target, rest, class_weights, sums, None
    ) + weights[1] * written_out(output, target, own, class_weights, sums, importance)


@pytest.mark.parametrize("importance", [None, IMPORTANCE], ids=["plain", "importance"])
@pytest.mark.parametrize("weights", [None, (0.3, 2.0), (0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("name", CRITERIA)
def test_the_loss_and_its_gradient_are_the_formula(name, span, weights, importance):
    criterion = CRITERIA[name][0]
    (one, target), (other, _) = batch(), batch()
    loss = MemoryLoss(criterion, span, weights, importance)
    assert not loss.called
    found = loss(one, target)
    assert loss.called
    wanted = expected(name, other, target, span, weights, importance)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["mean", "sum", "function that sums", "of a user"])
@pytest.mark.parametrize("importance", [None, torch.ones(3)])
def test_without_weights_it_is_the_criterion_of_all_rows(name, importance):
    """Shares of rows make one mean over all; class weights of a mean are of each part."""
    criterion = CRITERIA[name][0]
    output, target = batch()
    found = MemoryLoss(criterion, (4, 7), None, importance)(output, target)
    torch.testing.assert_close(found, criterion(output, target), rtol=1e-12, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_regression_by_the_elements_of_a_row(reduction):
    draw = torch.Generator().manual_seed(2)
    output, target = torch.randn(2, ROWS, 3, generator=draw, dtype=torch.float64)
    criterion = nn.MSELoss(reduction=reduction)
    found = MemoryLoss(criterion, (4, 7), (0.5, 2.0), IMPORTANCE)(output, target)
    losses = [
        sum(float(a - b) ** 2 for a, b in zip(x, y, strict=True))
        for x, y in zip(output, target, strict=True)
    ]
    weighed = sum(float(w) * x for w, x in zip(IMPORTANCE, losses[4:], strict=True))
    current = sum(losses[:4])
    if reduction == "mean":
        current, weighed = current / (4 * 3), weighed / (3 * 3)
    assert float(found) == pytest.approx(0.5 * current + 2.0 * weighed, rel=1e-12)


def test_importance_weights_are_of_the_rows_of_one_memory():
    """Not of those of a memory that was asked before or later."""
    output, target = batch()
    plain = MemoryLoss(nn.CrossEntropyLoss(), (2, 5), (1.0, 1.0), torch.ones(3))
    other = MemoryLoss(nn.CrossEntropyLoss(), (2, 5), (1.0, 1.0), 3 * torch.ones(3))
    apart = other(output, target) - plain(output, target)
    twice = 2 * cross_entropy(output[2:5], target[2:5])
    torch.testing.assert_close(apart, twice, rtol=1e-12, atol=0)


def test_it_is_told_from_the_criterion_that_it_stands_for():
    criterion = nn.CrossEntropyLoss()
    strategy = SimpleNamespace(_criterion=criterion)
    assert own_criterion(strategy) is criterion
    strategy._criterion = MemoryLoss(criterion, (4, 7), None)
    assert own_criterion(strategy) is criterion


def test_weights_by_experience_are_checked_when_they_are_made():
    clock = SimpleNamespace(train_exp_counter=2)
    strategy = SimpleNamespace(experience=None, clock=clock)
    assert weights_of(None, strategy) is None
    assert weights_of((1, 2), strategy) == (1, 2)
    assert weights_of(lambda k: (1 / k, k), strategy) == (1 / 3, 3)
    for made in (3, (1,), (1, -2), (1, float("nan")), "ab"):
        with pytest.raises(ValueError, match="must be two numbers of 0 or more") as e:
            weights_of(lambda k, made=made: made, strategy)
        assert repr(made) in str(e.value)
        assert "\n" not in str(e.value)
