"""The slow, obvious reference of per-sample gradients: a backward pass for each row.

In evaluation mode: batch norm on its running statistics, dropout off. Losses are those
of a mean over the row's elements, written out for the criteria of the tests.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def single(batch: Any, row: int) -> Any:
    """One row of tensors, or of dictionaries of tensors, as a batch of one."""
    if isinstance(batch, dict):
        return {name: single(value, row) for name, value in batch.items()}
    return None if batch is None else batch[row : row + 1]


def output_of(model: nn.Module, x: Any, task: Tensor | None = None) -> Any:
    """The model's output, with task labels where there are any."""
    return model(x) if task is None else model(x, task)


def gradient_rows(
    model: nn.Module,
    criterion: Callable[[Any, Any], Tensor],
    x: Any,
    y: Any,
    task: Tensor | None = None,
) -> dict[str, Tensor]:
    """Gradient of each row's loss for each trainable parameter, ``(n, *shape)``.

    :param criterion: gives the loss of a batch of one.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows: dict[str, list[Tensor]] = {name: [] for name in named}
    for row in range(len(y)):
        output = output_of(model, single(x, row), single(task, row))
        loss = criterion(output, single(y, row))
        wanted = list(named.values())
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        for (name, parameter), gradient in zip(named.items(), found, strict=True):
            dense = torch.zeros_like(parameter) if gradient is None else gradient
            rows[name].append(dense.to_dense().detach())
    for module, mode in modes:
        module.training = mode
    return {name: torch.stack(values) for name, values in rows.items()}


def norms_of(rows: dict[str, Tensor]) -> Tensor:
    """The length of each row's whole gradient."""
    vectors = flat(rows)
    # In single precision torch's norm of so many numbers is right to 2e-6 only.
    return vectors.double().norm(dim=1).to(vectors.dtype)


def squares_of(rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean of squares by parameter."""
    return {name: values.square().mean(0) for name, values in rows.items()}


def flat(rows: dict[str, Tensor]) -> Tensor:
    """Gradients as vectors, ``(n, P)``."""
    return torch.cat([values.reshape(len(values), -1) for values in rows.values()], 1)
