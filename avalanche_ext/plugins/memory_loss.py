"""How the losses of current and of memory rows make one loss."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from avalanche.benchmarks import OnlineCLExperience
from torch import Tensor

from avalanche_ext.arguments import is_number
from avalanche_ext.gradients import per_sample_losses
from avalanche_ext.gradients.losses import reduction_of

LossWeights: TypeAlias = tuple[float, float] | Callable[[int], tuple[float, float]]
"""Weights of the current and the memory rows' losses, or a function of the number of
experiences met (1, 2, …) that returns them."""


class MemoryLoss:
    """``c · criterion(all other rows) + r · criterion(rows of one memory)``.

    Where the memory's rows have importance weights ``w``, the second is
    ``1/m Σ_i w_i L_i`` (without ``1/m`` for a criterion that sums), ``L_i`` by
    :func:`~avalanche_ext.gradients.per_sample_losses`.

    It stands in the place of the strategy's criterion for one forward pass.

    :param criterion: the strategy's own.
    :param span: where the memory's ``m`` rows begin and end in the minibatch.
    :param weights: ``(c, r)``; ``None``: the shares of rows, as in one mean over all.
    :param row_weights: ``w``, shape ``(m,)``; ``None``: 1 each.
    """

    def __init__(
        self,
        criterion: Any,
        span: tuple[int, int],
        weights: tuple[float, float] | None,
        row_weights: Tensor | None = None,
    ) -> None:
        self.criterion, self.span = criterion, span
        self.weights, self.row_weights = weights, row_weights
        self.called = False

    def __call__(self, output: Tensor, target: Tensor) -> Any:
        self.called = True
        (own, rest), (own_y, rest_y) = self._split(output), self._split(target)
        sums = reduction_of(self.criterion) == "sum"
        if self.weights is not None:
            current, memory = self.weights
        elif sums:
            current, memory = 1.0, 1.0
        else:
            current, memory = len(rest) / len(output), len(own) / len(output)
        if self.row_weights is None:
            replayed = self.criterion(own, own_y)
        else:
            losses = per_sample_losses(self.criterion, own, own_y)
            weighed = losses * self.row_weights.to(losses)
            replayed = weighed.sum() if sums else weighed.mean()
        return current * self.criterion(rest, rest_y) + memory * replayed

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        start, stop = self.span
        rest = rows[:start]
        if stop < len(rows):  # rows of a memory that was asked later
            rest = torch.cat((rest, rows[stop:]))
        return rows[start:stop], rest


def own_criterion(strategy: Any) -> Any:
    """The strategy's criterion, also where one of these stands in its place."""
    criterion = strategy._criterion
    return criterion.criterion if isinstance(criterion, MemoryLoss) else criterion


def weights_of(weights: LossWeights | None, strategy: Any) -> Any:
    """The two weights in the strategy's experience.

    :raises ValueError: for weights by experience where its number is hidden, or what
        are no two weights.
    """
    if callable(weights):
        weights = weights(_experience_number(strategy))
        check_weights(weights)
    return weights


def check_weights(weights: Any) -> None:
    """Refuse what is neither ``None``, nor a function, nor two numbers of 0 or more.

    :raises ValueError: naming what was given.
    """
    if weights is None or callable(weights):
        return
    if (
        not isinstance(weights, (tuple, list))
        or len(weights) != 2
        or not all(is_number(w) and 0 <= w < math.inf for w in weights)
    ):
        raise ValueError(
            f"loss_weights must be two numbers of 0 or more, of current and memory rows, "
            f"got {weights!r}"
        )


def _experience_number(strategy: Any) -> int:
    experience = strategy.experience
    if not isinstance(experience, OnlineCLExperience):
        return int(strategy.clock.train_exp_counter) + 1
    if not experience.access_task_boundaries:
        raise ValueError(
            "loss_weights by experience need to know where one begins: split the online "
            "stream with access_task_boundaries=True, or give two fixed weights"
        )
    return int(experience.origin_experience.current_experience) + 1
