"""The bare loops of the importance regularisers, as they are usually written.

The penalty is a sum over the parameters that autograd differentiates. Importances are
arbitrary: it is the step that is timed.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Train = Callable[
    [nn.Module, torch.optim.Optimizer, Tensor, Tensor, Sequence[Tensor]], int
]
"""Gradient steps on batches given by the indices of their rows; returns how many."""


class Penalty:
    """``Σ F (θ − θ*)²`` around where a model is when this is made."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = list(model.parameters())
        self.anchors = [p.detach().clone() for p in self.parameters]
        self.importances = [torch.rand_like(p) for p in self.anchors]

    def __call__(self) -> Tensor:
        parts = zip(self.importances, self.parameters, self.anchors, strict=True)
        return torch.stack([(f * (p - a).square()).sum() for f, p, a in parts]).sum()


def ewc(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    batches: Sequence[Tensor],
) -> int:
    """Elastic weight consolidation: the penalty is part of the loss."""
    penalty = Penalty(model)
    model.train()
    for index in batches:
        optimizer.zero_grad()
        loss = _loss(model, x, y, index)
        (loss + 0.5 * penalty()).backward()
        optimizer.step()
    return len(batches)


def si(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    batches: Sequence[Tensor],
) -> int:
    """Synaptic Intelligence: the gradient of the loss alone times the step that is made
    of it and the penalty's."""
    penalty = Penalty(model)
    integrals = [torch.zeros_like(p) for p in penalty.anchors]
    model.train()
    for index in batches:
        optimizer.zero_grad()
        loss = _loss(model, x, y, index)
        loss.backward()
        slopes = [p.grad.clone() for p in penalty.parameters if p.grad is not None]
        before = [p.detach().clone() for p in penalty.parameters]
        penalty().backward()
        optimizer.step()
        with torch.no_grad():
            steps = zip(integrals, slopes, penalty.parameters, before, strict=True)
            for integral, slope, now, last in steps:
                integral.addcmul_(slope, now - last, value=-1)
    return len(batches)


def _loss(model: nn.Module, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
    return F.cross_entropy(model(x.index_select(0, index)), y.index_select(0, index))
