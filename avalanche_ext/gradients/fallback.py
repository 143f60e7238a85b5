"""Per-sample gradients for any model: a backward pass for each row, or ``torch.func``."""

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from avalanche_ext.gradients.losses import Criterion, per_sample_losses
from avalanche_ext.gradients.problem import Problem
from avalanche_ext.gradients.rows import apply, count_rows, linear, take

Way = Literal["vmap", "loop"]
Gradients = dict[str, Tensor]

# A row's gradients written out cost vmap more than the calls that it saves from here
# on (measured: docstring of `way_for`).
_VMAP_NUMBERS = 50_000
_VMAP_BYTES = 1 << 25


def row_gradients(
    problem: Problem,
    criterion: Criterion,
    x: Any,
    target: Any,
    task: Tensor | None,
    names: list[str],
    way: Way,
) -> Iterator[tuple[slice, Gradients]]:
    """Gradients of each row for the parameters ``names``, shape ``(m, *shape)`` each.

    :return: rows of the batch, and their gradients.
    """
    rows = count_rows(x)
    if way == "loop":
        yield from _loop(problem, criterion, x, target, task, names, slice(0, rows))
        return
    numbers = sum(problem.parameters[name].numel() for name in names)
    step = max(1, _VMAP_BYTES // (4 * numbers))
    for start in range(0, rows, step):
        some = slice(start, min(start + step, rows))
        own_x, own_target, own_task = take((x, target, task), some)
        try:
            yield some, _vmap(problem, criterion, own_x, own_target, own_task, names)
        except RuntimeError:  # a criterion that vmap does not know
            yield from _loop(problem, criterion, x, target, task, names, some)


def way_for(
    problem: Problem, x: Any, task: Tensor | None, names: list[str]
) -> tuple[Way, str]:
    """Which way is taken for the parameters ``names``, and why.

    ``vmap`` where the model allows it and the parameters have at most 50,000
    numbers, else the loop. It is a rule and not a timing, so that a run can be repeated
    bit for bit.

    :param x: a few rows.
    """
    numbers = sum(problem.parameters[name].numel() for name in names)
    if numbers > _VMAP_NUMBERS:
        return "loop", f"{numbers} numbers a row"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns where vmap itself would loop
            _vmap(problem, _any_criterion, x, None, task, names)
    except Exception as error:  # whatever the model does that vmap does not know
        message = str(error).strip() or type(error).__name__
        return "loop", f"vmap: {message.splitlines()[0][:80]}"
    return "vmap", f"{numbers} numbers a row"


def _any_criterion(output: Any, target: Any, reduction: str = "mean") -> Tensor:
    losses: Tensor = linear(output).sum(1)
    return losses


def _loop(
    problem: Problem,
    criterion: Criterion,
    x: Any,
    target: Any,
    task: Tensor | None,
    names: list[str],
    rows: slice,
) -> Iterator[tuple[slice, Gradients]]:
    wanted = [problem.parameters[name] for name in names]
    nothing: list[Tensor | None] = [None] * len(names)
    for row in range(rows.start, rows.stop):
        one = slice(row, row + 1)
        own_x, own_target, own_task = take((x, target, task), one)
        output = problem.output(own_x, own_task)
        loss = per_sample_losses(criterion, output, own_target).sum()
        found = (
            torch.autograd.grad(loss, wanted, allow_unused=True)
            if loss.requires_grad
            else nothing
        )
        yield one, {
            name: (torch.zeros_like(p) if g is None else g.to_dense())[None]
            for name, p, g in zip(names, wanted, found, strict=True)
        }


class _RowLoss(nn.Module):
    """The loss of one row, as a module, so that its parameters can be replaced."""

    def __init__(self, problem: Problem, criterion: Criterion) -> None:
        super().__init__()
        self.model = problem.model
        self.problem = problem
        self.criterion = criterion

    def forward(self, x: Any, target: Any, task: Tensor | None) -> Tensor:
        output = self.problem.output(x, task)
        return per_sample_losses(self.criterion, output, target).sum()


def _vmap(
    problem: Problem,
    criterion: Criterion,
    x: Any,
    target: Any,
    task: Tensor | None,
    names: list[str],
) -> Gradients:
    module = _RowLoss(problem, criterion)
    wanted = {f"model.{n}": problem.parameters[n].detach() for n in names}

    def loss(wanted: Gradients, *row: Any) -> Tensor:
        one = apply(row, lambda values: values[None])
        result: Tensor = functional_call(module, wanted, one)
        return result

    batch = x, target, task
    over = (None, *(None if part is None else 0 for part in batch))
    # Gradients of other parameters are off, which vmap(grad) ignores; the other kernels
    # of attention have no rule for vmap.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        found = vmap(grad(loss), in_dims=over)(wanted, *batch)
    return {name.removeprefix("model."): values for name, values in found.items()}
