"""A criterion from how much of a row was forgotten."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from avalanche_ext.storage.criteria.context import ScoredRows, ScoringContext


@dataclass(frozen=True)
class ForgettingCriterion:
    """How far the loss of a row has risen above the lowest that it had,
    ``L_i − min_s L_i(s)`` over the times ``s`` at which it was scored since it was kept:
    0 for a row that is scored for the first time, or better than ever.

    The loss itself is high for rows that were never learnt, such as those with wrong
    labels; this one for rows that were learnt and are being lost. It is the continuous
    form of counting forgetting events, and what a virtual step of maximally interfered
    retrieval looks for, from losses that are known anyway.

    The lowest loss is column ``"lowest_loss"`` of the memory.

    M. Toneva et al., An empirical study of example forgetting during deep neural network
    learning, ICLR 2019; R. Aljundi et al., Online continual learning with maximally
    interfered retrieval, NeurIPS 2019.

    >>> rows = {"x": torch.zeros(3, 1), "y": torch.zeros(3)}
    >>> rows["lowest_loss"] = torch.tensor([0.5, 2.0, torch.nan])
    >>> context = ScoringContext()
    >>> context.know(rows, losses=torch.tensor([2.0, 1.0, 1.0]))
    >>> ForgettingCriterion().score(rows, context)
    tensor([1.5000, 0.0000, 0.0000])

    :param name: what options, columns and errors call it.
    """

    name: str = "forgetting"
    reads: ClassVar[tuple[str, ...]] = ("losses",)
    remembers: ClassVar[str] = "lowest_loss"

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`.

        :raises ValueError: without a model or a loss function.
        """
        losses, lowest = context.losses(rows), self.remember(rows, context)
        both = losses == lowest  # where they are infinite, the difference is NaN
        return (losses - lowest).masked_fill(both, 0)

    def remember(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """The lowest loss of each row, this time included, shape ``(n,)``."""
        known: Tensor | None = context.known(rows, self.remembers)
        if known is not None:  # score and remember are asked one after the other
            return known
        lowest, before = context.losses(rows), rows.get(self.remembers)
        if isinstance(before, Tensor):
            lowest = torch.fmin(lowest, before.to(lowest))
        context.know(rows, **{self.remembers: lowest})
        return lowest
