"""Which of a model's gradients formulas give, found out on a few rows.

A formula for a layer is used only where its parameters are used once, by this layer
(seen in the autograd graph), and where the first dimension of its input is that of the
rows (tried out: with the rows' losses scaled by 1, 2, 4, … the gradients of its output
must scale likewise, and a row alone must have the same output as among others).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext.gradients.capture import Layer, layers_of, watching
from avalanche_ext.gradients.fallback import Way, way_for
from avalanche_ext.gradients.problem import (
    Forward,
    Parameters,
    Problem,
    Shapes,
    differentiable,
    forward_rows,
    problem_of,
)
from avalanche_ext.gradients.rows import count_rows, linear, take
from avalanche_ext.gradients.sources import Source, survey

_MOST_ROWS = 16


@dataclass(frozen=True)
class Inspection:
    """How per-sample gradients of a model are computed. ``print`` it for a table.

    :param formulas: parameters whose gradients follow from a formula of their layer,
        by name.
    :param refused: those whose do not, and why.
    :param way: how the gradients of these are computed: ``"vmap"`` (``torch.func``),
        ``"loop"`` (a backward pass for each row), or ``None`` where there are none.
    :param reason: why in this way.
    :param independent: whether a row's output depends on this row alone.
    :param row_bytes: what the layers' inputs and outputs take for each row.
    :param shapes: of the model's parameters when it was inspected.
    """

    formulas: frozenset[str]
    refused: Mapping[str, str]
    way: Way | None
    reason: str
    independent: bool
    row_bytes: int
    shapes: Shapes

    def fits(self, problem: Problem) -> bool:
        """Whether the model's parameters are still those that were inspected."""
        return self.shapes == problem.shapes

    def unmet(self, names: Iterable[str]) -> bool:
        """Whether one of these parameters was not used when inspected."""
        return any(n not in self.formulas and n not in self.refused for n in names)

    def merged(self, other: "Inspection") -> "Inspection":
        """What either found; a refusal wins."""
        refused = {**self.refused, **other.refused}
        slower = self if other.way is None or self.way == "loop" else other
        return Inspection(
            (self.formulas | other.formulas) - set(refused),
            refused,
            slower.way,
            slower.reason,
            self.independent and other.independent,
            max(self.row_bytes, other.row_bytes),
            other.shapes,
        )

    def __str__(self) -> str:
        lines = [f"{name}: formula" for name in sorted(self.formulas)]
        for name, why in sorted(self.refused.items()):
            lines.append(f"{name}: {self.way} ({self.reason}), since {why}")
        return "\n".join(lines)


def inspect_gradients(
    model: nn.Module,
    x: Any,
    task: Tensor | None = None,
    *,
    parameters: Parameters = "all",
    forward: Forward = forward_rows,
) -> Inspection:
    """Find out how each layer's per-sample gradients can be computed.

    The functions of this package do so at each call, at the cost of a forward and two
    backward passes over a few rows; hand them what this returns to save it. An
    inspection holds until parameters are added, grow, freeze or thaw, and as long as
    ``forward`` does the same with the same layers; layers that were not met are
    inspected when they are.

    :param model: any module; it is left as it was.
    :param x: rows of the model's input; one of each task label is used.
    :param task: task labels, shape ``(n,)``.
    :param parameters: ``"all"``, names, or ``"last"``.
    :param forward: how the model is called with rows and their task labels.
    :raises ValueError: for unknown parameters, or if none is trainable.
    """
    problem = problem_of(model, forward, parameters)
    with differentiable(problem):
        return inspect_rows(problem, x, task)


def inspect_rows(
    problem: Problem, x: Any, task: Tensor | None, rows: Tensor | None = None
) -> Inspection:
    """The inspection on ``rows``, by default one of each task and at least three."""
    if rows is None:
        rows = _various(count_rows(x), task)
    if len(rows) == 1:
        rows = rows.repeat(2)
    rows = rows[:_MOST_ROWS]
    x, task = problem.place((take(x, rows), None if task is None else task[rows]))
    layers = layers_of(problem.model, problem.parameters)
    with watching(layers) as order:
        output = problem.output(x, task)
    values = linear(output)
    found = survey(problem, layers, values.grad_fn, len(rows))
    formulas: set[str] = set()
    refused = dict(found.refused)
    independent = _alone(problem, x, task, values)
    if independent:
        for source, good in zip(
            found.sources, _row_wise(found.sources, values), strict=True
        ):
            if good:
                formulas.update(source.names)
            else:
                refused.update(
                    dict.fromkeys(source.names, "its rows are not the batch's")
                )
    else:
        names = [name for source in found.sources for name in source.names]
        refused.update(dict.fromkeys(names, "the rows of a batch depend on each other"))
    rest = sorted(refused)
    if problem.last:
        last = last_names(order, len(rows))
        rest = [name for name in rest if name in last]
    way, reason = way_for(problem, x, task, rest) if rest else (None, "")
    numbers = sum(
        call.inputs.numel() + call.shape.numel()
        for layer in layers
        for call in layer.calls
    )
    return Inspection(
        frozenset(formulas),
        refused,
        way,
        reason,
        independent,
        max(1, numbers * values.element_size() // len(rows)),
        problem.shapes,
    )


def last_names(order: list[Layer], rows: int) -> set[str]:
    """Parameters of the layer called last; with heads, until all rows have had one."""
    found: set[str] = set()
    for layer in reversed(order):
        found.update(layer.names.values())
        rows -= layer.calls[-1].shape[0] if layer.calls else rows
        if rows <= 0:
            break
    return found


def _row_wise(sources: list[Source], values: Tensor) -> list[bool]:
    """Whether the gradient of each output scales with the losses of its rows."""
    if not sources:
        return []
    scales = 2.0 ** torch.arange(len(values), device=values.device)
    scales = scales.to(values.dtype)
    edges = [source.edge for source in sources]
    losses = values.sum(1)
    plain = torch.autograd.grad(
        losses.sum(), edges, retain_graph=True, allow_unused=True
    )
    scaled = torch.autograd.grad(losses @ scales, edges, allow_unused=True)
    return [
        first is not None
        and second is not None
        and _scales(source, first, second, scales)
        for source, first, second in zip(sources, plain, scaled, strict=True)
    ]


def _scales(source: Source, plain: Tensor, scaled: Tensor, scales: Tensor) -> bool:
    plain, scaled = source.rows_first(plain), source.rows_first(scaled)
    own = scales if source.origin is None else scales[source.origin]
    own = own.to(plain.dtype).view(-1, *(1,) * (plain.dim() - 1))
    back, near = scaled / own, 1e-5 * _largest(plain)
    return torch.allclose(back, plain, rtol=1e-3, atol=near, equal_nan=True)


def _various(rows: int, task: Tensor | None) -> Tensor:
    first = torch.arange(min(rows, 3))
    if task is None:
        return first
    labels = task.tolist()
    each = {label: row for row, label in reversed(list(enumerate(labels)))}
    return torch.tensor(sorted({*each.values(), *first.tolist()}))


def _alone(problem: Problem, x: Any, task: Tensor | None, values: Tensor) -> bool:
    """Whether the first row has the same output alone."""
    one = slice(0, 1)
    try:
        with torch.no_grad():
            alone = linear(
                problem.output(take(x, one), None if task is None else task[one])
            )
    except Exception:  # e.g. statistics of a batch of one
        return False
    near = 1e-4 * _largest(values.detach())
    return alone.shape == values[one].shape and torch.allclose(
        alone, values[one], rtol=1e-3, atol=near, equal_nan=True
    )


def _largest(values: Tensor) -> float:
    """The largest magnitude; that of a model that has diverged counts as 0."""
    finite = values.abs().nan_to_num(0.0, 0.0, 0.0)
    return float(finite.max()) if finite.numel() else 0.0
