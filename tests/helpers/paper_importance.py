"""EWC and Synaptic Intelligence as the papers have them, in slow and obvious loops.

One backward pass a row, dictionaries by name, the history of all experiences in a list
that each penalty goes through. Written without the code that it judges.

* Fisher information and penalty: J. Kirkpatrick et al. 2017; one anchor instead of many
  and the decayed sum: F. Huszár 2018, J. Schwarz et al. 2018.
* Path integral: F. Zenke, B. Poole and S. Ganguli 2017, with the relu of their code.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Named = dict[str, Tensor]
Row = tuple[Any, Tensor, Tensor | None]  # a batch of one: input, target, task label


def rows_of(x: Any, y: Tensor, task: Tensor | None = None) -> list[Row]:
    """Batches of one."""
    return [
        (x[i : i + 1], y[i : i + 1], None if task is None else task[i : i + 1])
        for i in range(len(y))
    ]


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that are trained, by name."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def copied(model: nn.Module) -> Named:
    """Their values, as they are now."""
    return {n: p.detach().clone() for n, p in named(model).items()}


def gradients(loss: Tensor, model: nn.Module) -> Named:
    """Those of a loss, 0 where it does not depend on a parameter."""
    own = named(model)
    found = torch.autograd.grad(
        loss, list(own.values()), retain_graph=True, allow_unused=True
    )
    return {
        n: torch.zeros_like(p) if g is None else g.to_dense().detach().clone()
        for (n, p), g in zip(own.items(), found, strict=True)
    }


def call(model: nn.Module, x: Any, task: Tensor | None) -> Tensor:
    """The model's output."""
    out: Tensor = model(x) if task is None else model(x, task)
    return out


def squares_by_class(model: nn.Module, row: Row) -> list[tuple[float, Named]]:
    """``p(c | x)`` and ``(∇ log p(c | x))²`` of each class of the model's output."""
    x, _, task = row
    log_p = F.log_softmax(call(model, x, task), 1)[0]
    found = []
    for c in range(len(log_p)):
        g = gradients(log_p[c], model)
        found.append((log_p[c].exp().item(), {n: v**2 for n, v in g.items()}))
    return found


def fisher(
    model: nn.Module,
    rows: Sequence[Row],
    labels: Literal["exact", "empirical", "weighted"] = "exact",
    criterion: Callable[[Any, Any], Tensor] = F.cross_entropy,
) -> Named:
    """Mean over rows of squared gradients of one row, the model in evaluation mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    total = {n: torch.zeros_like(p) for n, p in named(model).items()}
    for x, y, task in rows:
        if labels == "empirical":
            g = gradients(criterion(call(model, x, task), y), model)
            for name in total:
                total[name] += g[name] ** 2 / len(rows)
            continue
        for c, (p, squares) in enumerate(squares_by_class(model, (x, y, task))):
            if labels == "exact" or c == int(y):
                for name in total:
                    total[name] += p * squares[name] / len(rows)
    for module, mode in modes:
        module.training = mode
    return total


def grown(values: Tensor, shape: torch.Size) -> Tensor:
    """In the first places of a larger tensor, 0 elsewhere."""
    out = values.new_zeros(shape)
    out[tuple(slice(0, n) for n in values.shape)] = values
    return out


def silenced(importance: Named, threshold: float) -> Named:
    """Entries below ``threshold`` times the mean of all entries are 0."""
    entries = [v.item() for values in importance.values() for v in values.flatten()]
    least = threshold * sum(entries) / len(entries)
    return {
        n: torch.where(values < least, torch.zeros_like(values), values)
        for n, values in importance.items()
    }


class PaperEWC:
    """``λ/2 Σ F (θ − θ*)²``, gone through again from all experiences at each call."""

    def __init__(
        self,
        strength: float,
        accumulation: Literal["sum", "ema", "separate"] = "sum",
        decay: float = 1.0,
        *,
        labels: Literal["exact", "empirical", "weighted"] = "exact",
        threshold: float = 0.0,
        balance: bool = False,
        held: Callable[[str], bool] = lambda name: True,
        criterion: Callable[[Any, Any], Tensor] = F.cross_entropy,
    ) -> None:
        self.strength, self.accumulation, self.decay = strength, accumulation, decay
        self.labels, self.threshold, self.balance = labels, threshold, balance
        self.held, self.criterion = held, criterion
        self.history: list[tuple[Named, Named]] = []

    def begin(self, model: nn.Module) -> None:
        """Nothing is done before an experience."""

    def step(self, g: Named, before: Named, after: Named) -> None:
        """Nor after a step."""

    def end(self, model: nn.Module, rows: Sequence[Row]) -> None:
        """An experience has ended."""
        new = fisher(model, rows, self.labels, self.criterion)
        new = {n: v for n, v in new.items() if self.held(n)}
        self.history.append((silenced(new, self.threshold), copied(model)))

    def terms(self, model: nn.Module) -> list[tuple[Named, Named]]:
        """Importances with their anchors, in the shapes that the model has now."""
        found: list[tuple[Named, Named]] = []
        for number, (new, anchor) in enumerate(self.history):
            shapes = {n: p.shape for n, p in named(model).items() if self.held(n)}
            new, anchor = (
                {
                    n: grown(values[n], s) if n in values else torch.zeros(s)
                    for n, s in shapes.items()
                }
                for values in (new, anchor)
            )
            if self.accumulation != "separate" and number:
                ((old, _),) = found
                share = 1 - self.decay if self.accumulation == "ema" else 1
                new = {n: self.decay * old[n] + share * new[n] for n in new}
                found = []
            found.append((new, anchor))
        return found

    def scale(self, model: nn.Module) -> float:
        """What λ is divided by."""
        if not self.balance:
            return 1.0
        total: list[float] = []
        terms = self.terms(model)
        for name in terms[0][0]:
            values = sum(importance[name] for importance, _ in terms)
            total += [v.item() for v in values.flatten() if v.item() != 0]
        return sum(total) / len(total)

    def penalty(self, model: nn.Module) -> Tensor:
        """Differentiable, by autograd alone."""
        out = torch.zeros((), dtype=next(model.parameters()).dtype)
        for importance, anchor in self.terms(model):
            for n, p in named(model).items():
                if n in importance:
                    out = out + (importance[n] * (p - anchor[n]) ** 2).sum()
        return self.strength / 2 / (self.scale(model) if self.history else 1) * out


class PaperSI:
    """``c Σ Ω (θ − θ*)²``, ``Ω`` from the path integral of the gradient."""

    def __init__(self, strength: float, xi: float = 0.1) -> None:
        self.strength, self.xi = strength, xi
        self.importance: Named = {}
        self.anchor: Named = {}

    def begin(self, model: nn.Module) -> None:
        """An experience begins: the model has grown by now."""
        self.omega = {n: torch.zeros_like(p) for n, p in named(model).items()}
        self.start = copied(model)

    def step(self, g: Named, before: Named, after: Named) -> None:
        """``ω ← ω − g Δθ``."""
        for name in self.omega:
            self.omega[name] -= g[name] * (after[name] - before[name])

    def end(self, model: nn.Module, rows: Sequence[Row]) -> None:
        """``Ω ← relu(Ω + ω / (Δ² + ξ))`` and ``θ* ← θ``."""
        for n, p in named(model).items():
            moved = p.detach() - self.start[n]
            old = self.importance.get(n, torch.zeros(()))
            old = grown(old, p.shape) if old.dim() else torch.zeros_like(p)
            new = old + self.omega[n] / (moved**2 + self.xi)
            self.importance[n] = torch.where(new > 0, new, torch.zeros_like(new))
        self.anchor = copied(model)

    def penalty(self, model: nn.Module) -> Tensor:
        """Differentiable, by autograd alone."""
        out = torch.zeros((), dtype=next(model.parameters()).dtype)
        for n, p in named(model).items():
            if n in self.anchor:
                importance = grown(self.importance[n], p.shape)
                away = p - grown(self.anchor[n], p.shape)
                out = out + (importance * away**2).sum()
        return self.strength * out


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Any, Tensor, Tensor | None]],
    methods: Sequence[PaperEWC | PaperSI],
    *,
    clip: float | None = None,
    also: Callable[[nn.Module], Tensor] | None = None,
) -> None:
    """Steps of plain training with penalties.

    :param clip: the largest norm of the whole gradient, as clipped before each step.
    :param also: another term of the loss, no penalty of ``methods``.
    """
    model.train()
    for x, y, task in batches:
        loss = F.cross_entropy(call(model, x, task), y)
        if also is not None:
            loss = loss + also(model)
        g = gradients(loss, model)
        for method in methods:
            loss = loss + method.penalty(model)
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            lengths = [p.grad.norm() for p in model.parameters() if p.grad is not None]
            length = torch.stack(lengths).norm()
            if length > clip:
                for p in model.parameters():
                    if p.grad is not None:
                        p.grad *= clip / (length + 1e-6)  # torch's own guard
        before = copied(model)
        optimizer.step()
        for method in methods:
            method.step(g, before, copied(model))


def importance_of(plugin: Any, model: nn.Module, share: float) -> Named:
    """What a plugin's penalty says of the importance: that of all anchors together.

    The gradient of ``s Σ F (θ − θ*)²`` changes by ``2 s F`` where ``θ`` grows by 1,
    wherever ``θ*`` is. Copies of both are asked, so that nothing changes.

    :param share: ``s``.
    """
    plugin, model = copy.deepcopy(plugin), copy.deepcopy(model)
    here = gradients(plugin.penalty(model), model)
    with torch.no_grad():
        for p in named(model).values():
            p += 1
    there = gradients(plugin.penalty(model), model)
    return {n: (there[n] - here[n]) / (2 * share) for n in here}


def close(found: Named, wanted: Named, tolerance: float = 1e-8) -> None:
    """Assert that they are the same: in double precision each entry, relative to the
    largest of its tensor, or 1e-12 (a bias before batch norm has gradients of rounding
    errors); in single precision each tensor, in norm."""
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].shape == values.shape, name
        if values.dtype == torch.float64:
            error = (found[name] - values).abs().max()
            size = values.abs().max()
        else:
            error = (found[name].double() - values.double()).norm()
            size = values.double().norm()
            tolerance = max(tolerance, 1e-6)
        assert error <= tolerance * size + 1e-12, f"{name}: {error / size:.1e}"
