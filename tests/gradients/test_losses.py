"""One rule for the loss of a row: its elements' mean, or sum where the criterion sums."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext.gradients import per_sample_losses

ROWS, CLASSES = 6, 4


@pytest.fixture
def scores() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(ROWS, CLASSES)


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(ROWS) % CLASSES


def log_odds(scores: Tensor, label: int) -> Tensor:
    return scores[label] - scores.exp().sum().log()


def test_class_weights_multiply_a_rows_loss(scores: Tensor, labels: Tensor) -> None:
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0])
    expected = torch.stack(
        [-weight[y] * log_odds(s, y) for s, y in zip(scores, labels, strict=True)]
    )
    for criterion in (
        nn.CrossEntropyLoss(weight),
        partial(F.cross_entropy, weight=weight),
    ):
        found = per_sample_losses(criterion, scores, labels)
        torch.testing.assert_close(found, expected)


def test_label_smoothing(scores: Tensor, labels: Tensor) -> None:
    smooth = 0.9 * F.one_hot(labels, CLASSES) + 0.1 / CLASSES
    expected = -(smooth * scores.log_softmax(1)).sum(1)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    torch.testing.assert_close(per_sample_losses(criterion, scores, labels), expected)
    torch.testing.assert_close(
        per_sample_losses(nn.CrossEntropyLoss(), scores, smooth), expected
    )


def test_ignored_tokens_do_not_count(labels: Tensor) -> None:
    scores = torch.randn(3, CLASSES, 5)
    tokens = torch.tensor([[0, 1, -100, 2, 3], [1, 1, 1, 1, 1], [-100] * 5])
    found = per_sample_losses(nn.CrossEntropyLoss(), scores, tokens)
    first = [-log_odds(scores[0, :, t], tokens[0, t]) for t in (0, 1, 3, 4)]
    second = [-log_odds(scores[1, :, t], 1) for t in range(5)]
    expected = torch.stack([sum(first) / 4, sum(second) / 5, torch.tensor(0.0)])
    torch.testing.assert_close(found, expected)
    summed = per_sample_losses(nn.CrossEntropyLoss(reduction="sum"), scores, tokens)
    torch.testing.assert_close(summed, expected * torch.tensor([4, 5, 1]))
    assert per_sample_losses(
        partial(F.cross_entropy, ignore_index=1), scores[1:2], tokens[1:2]
    ).tolist() == [0]


def test_regression_is_the_mean_over_outputs(scores: Tensor) -> None:
    target = torch.randn(ROWS, CLASSES)
    found = per_sample_losses(nn.MSELoss(), scores, target)
    torch.testing.assert_close(found, ((scores - target) ** 2).mean(1))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mean_of_rows_is_the_loss_of_the_batch(
    reduction: str, scores: Tensor, labels: Tensor
) -> None:
    criterion = nn.CrossEntropyLoss(reduction=reduction)
    found = per_sample_losses(criterion, scores, labels)
    torch.testing.assert_close(found.mean(), F.cross_entropy(scores, labels))


def test_batchmean_sums_a_row(scores: Tensor) -> None:
    target = torch.rand(ROWS, CLASSES).softmax(1)
    criterion = nn.KLDivLoss(reduction="batchmean")
    found = per_sample_losses(criterion, scores.log_softmax(1), target)
    expected = criterion(scores.log_softmax(1), target)
    torch.testing.assert_close(found.mean(), expected)


class Wrapped(nn.Module):
    """A criterion that has no reduction of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.CrossEntropyLoss()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.inner(output, target)
        return loss


def halved(output: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(output, target, reduction=reduction) / 2


@pytest.mark.parametrize(
    ("criterion", "factor"),
    [
        (Wrapped(), 1),
        (lambda output, target: F.cross_entropy(output, target), 1),
        (lambda output, target: F.cross_entropy(output, target, reduction="none"), 1),
        (halved, 0.5),
    ],
    ids=["module", "mean", "none", "own reduction"],
)
def test_other_criteria(
    criterion: Callable[[Any, Any], Tensor],
    factor: float,
    scores: Tensor,
    labels: Tensor,
) -> None:
    expected = factor * F.cross_entropy(scores, labels, reduction="none")
    torch.testing.assert_close(per_sample_losses(criterion, scores, labels), expected)


def test_criterion_is_left_alone(scores: Tensor, labels: Tensor) -> None:
    criterion = nn.CrossEntropyLoss(torch.ones(CLASSES))
    before = dict(vars(criterion))
    per_sample_losses(criterion, scores, labels)
    assert vars(criterion) == before
    assert criterion.reduction == "mean"


def test_losses_carry_gradients(scores: Tensor, labels: Tensor) -> None:
    scores.requires_grad_()
    losses = per_sample_losses(Wrapped(), scores, labels)
    (gradient,) = torch.autograd.grad(losses[2], scores)
    assert gradient[2].any()
    assert not gradient[[0, 1, 3, 4, 5]].any()


def test_no_rows() -> None:
    empty = torch.zeros(0, CLASSES), torch.zeros(0, dtype=torch.long)
    assert per_sample_losses(nn.CrossEntropyLoss(), *empty).shape == (0,)
    assert per_sample_losses(Wrapped(), *empty).shape == (0,)


def test_a_criterion_without_one_loss_a_row_is_refused(scores: Tensor) -> None:
    with pytest.raises(ValueError, match=r"returned \(1, 4\) for one row"):
        per_sample_losses(lambda output, target: output, scores, scores)
