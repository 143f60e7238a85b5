"""The diagonal Fisher of more rows than are in memory at once."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext.gradients.fisher import FisherLabels, diagonal_fisher
from avalanche_ext.gradients.inspection import inspect_gradients
from avalanche_ext.gradients.losses import Criterion
from avalanche_ext.gradients.problem import Parameters
from avalanche_ext.gradients.rows import count_rows, take

Batch = tuple[Any, Any, Tensor | None]
"""Inputs, targets (``None`` without) and task labels (``None`` without)."""


def fisher_of_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    labels: FisherLabels = "sampled",
    criterion: Criterion = F.cross_entropy,
    most: int | None = None,
    generator: torch.Generator | None = None,
    parameters: Parameters = "all",
) -> tuple[dict[str, Tensor], int]:
    """:func:`~avalanche_ext.gradients.diagonal_fisher` of the rows of all batches.

    The mean is over rows, so it does not depend on how they are cut into batches.

    :param batches: of rows, not empty; read one after the other.
    :param most: how many rows to use, the first ones; ``None`` for all.
    :return: the mean by parameter, and the number of rows.
    :raises ValueError: without any row, and as ``diagonal_fisher``.
    """
    rows, total, inspection = 0, None, None
    for x, y, task in batches:
        n = count_rows(x)
        if most is not None and rows + n > most:
            n = most - rows
            x, y, task = take((x, y, task), slice(0, n))
        if not n:
            break
        if inspection is None:
            inspection = inspect_gradients(model, x, task, parameters=parameters)
        found = diagonal_fisher(
            model,
            x,
            y,
            task,
            labels=labels,
            criterion=criterion,
            reduction="sum",
            generator=generator,
            parameters=parameters,
            inspection=inspection,
        )
        if total is None:
            total = found
        else:
            torch._foreach_add_(list(total.values()), list(found.values()))
        rows += n
        if rows == most:
            break
    if total is None:
        raise ValueError(
            "the Fisher information is a mean over rows, and there is none: give data "
            "that are not empty"
        )
    torch._foreach_div_(list(total.values()), rows)
    return total, rows
