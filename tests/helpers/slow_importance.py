"""Importance regularisers written out: lists of everything, a backward pass a row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from single_rows import gradient_rows, output_of
from torch import Tensor, nn

Named = dict[str, Tensor]


def slow_fisher(
    model: nn.Module, x: Tensor, y: Tensor, labels: str, task: Tensor | None = None
) -> Named:
    """``"empirical"`` or ``"exact"``, a row and a class at a time."""
    if labels == "empirical":
        rows = gradient_rows(model, F.cross_entropy, x, y, task)
        return {name: values.square().mean(0) for name, values in rows.items()}
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        odds = output_of(model, x, task).softmax(1)
    for module, mode in modes:
        module.training = mode
    total: Named = {}
    for label in range(odds.shape[1]):
        target = torch.full((len(x),), label)
        rows = gradient_rows(model, F.cross_entropy, x, target, task)
        for name, values in rows.items():
            weighed = odds[:, label].view(-1, *(1,) * (values.dim() - 1)) * values**2
            total[name] = total.get(name, torch.zeros(())) + weighed.mean(0)
    return total


@dataclass
class SlowEWC:
    """Every experience's Fisher and anchor in a list; the penalty by autograd."""

    strength: float
    accumulation: str
    decay: float
    fishers: list[Named] = field(default_factory=list)
    anchors: list[Named] = field(default_factory=list)

    def end(self, model: nn.Module, fisher: Named) -> None:
        self.fishers.append(fisher)
        self.anchors.append(
            {n: p.detach().clone() for n, p in model.named_parameters()}
        )

    def terms(self) -> list[tuple[Named, Named]]:
        if self.accumulation == "separate":
            return list(zip(self.fishers, self.anchors, strict=True))
        if not self.fishers:
            return []
        ema = self.accumulation == "ema"
        total = dict(self.fishers[0])
        for fisher in self.fishers[1:]:
            total = {
                n: self.decay * total[n] + (1 - self.decay if ema else 1) * fisher[n]
                for n in total
            }
        return [(total, self.anchors[-1])]

    def penalty(self, model: nn.Module) -> Tensor:
        named = dict(model.named_parameters())
        total = torch.zeros(())
        for fisher, anchor in self.terms():
            for name, values in fisher.items():
                total = total + (values * (named[name] - anchor[name]) ** 2).sum()
        return self.strength / 2 * total


@dataclass
class SlowSI:
    """Zenke et al. 2017, as the paper has it, with the relu of its code."""

    strength: float
    xi: float
    importance: Named = field(default_factory=dict)
    anchor: Named = field(default_factory=dict)
    integral: Named = field(default_factory=dict)
    start: Named = field(default_factory=dict)

    def begin(self, model: nn.Module) -> None:
        self.start = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.integral = {n: torch.zeros_like(p) for n, p in self.start.items()}

    def step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[], Tensor],
    ) -> None:
        named = dict(model.named_parameters())
        alone = torch.autograd.grad(loss(), list(named.values()))
        before = {n: p.detach().clone() for n, p in named.items()}
        total: Any = loss()
        for name, importance in self.importance.items():
            away = named[name] - self.anchor[name]
            total = total + self.strength * (importance * away**2).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for (name, p), gradient in zip(named.items(), alone, strict=True):
            self.integral[name] -= gradient * (p.detach() - before[name])

    def end(self, model: nn.Module) -> None:
        for name, p in model.named_parameters():
            new = self.integral[name] / ((p.detach() - self.start[name]) ** 2 + self.xi)
            before = self.importance.get(name, torch.zeros_like(new))
            self.importance[name] = torch.relu(before + new)
            self.anchor[name] = p.detach().clone()
