"""Norms of the gradients of single rows.

All quantities of this package are of ``∇L(x_i, y_i)``, the gradient of one row's loss (its rule:
:func:`~avalanche_ext.gradients.per_sample_losses`) for the trainable parameters, with
batch norm on running statistics and dropout off. Each equals what one backward pass for
each row would give. The model is left as it was: ``.grad``, buffers, training modes
and hooks.
"""

from typing import Any

from torch import Tensor, nn

from avalanche_ext.gradients.inspection import Inspection
from avalanche_ext.gradients.losses import Criterion
from avalanche_ext.gradients.passes import given, passes
from avalanche_ext.gradients.problem import (
    Forward,
    Parameters,
    differentiable,
    forward_rows,
    problem_of,
)
from avalanche_ext.gradients.rows import same_rows


def gradient_norms(
    model: nn.Module,
    criterion: Criterion,
    x: Any,
    y: Any,
    task: Tensor | None = None,
    *,
    parameters: Parameters = "all",
    forward: Forward = forward_rows,
    inspection: Inspection | None = None,
    rows_per_pass: int | None = None,
) -> Tensor:
    """``‖∇L(x_i, y_i)‖₂`` of each row, shape ``(n,)``.

    One forward pass and a backward pass for the layers' outputs alone; no gradient is
    written out where its norm follows from a formula.

    :param model: any module; it is left as it was.
    :param criterion: the loss; see :func:`~avalanche_ext.gradients.per_sample_losses`.
    :param x: ``n`` rows of input, on any device; a tensor or nested tensors.
    :param y: ``n`` rows of targets.
    :param task: task labels, shape ``(n,)``, for models that take them.
    :param parameters: ``"all"``, names, or ``"last"`` for those of the last layer with
        parameters alone (of each row's head, where there are several): for a linear one
        with input ``a`` this is ``‖δ‖ √(‖a‖² + 1)`` with the output's gradient ``δ``
        (softmax minus target for cross-entropy), at little more than a forward pass.
    :param forward: how the model is called with rows and their task labels.
    :param inspection: of
        :func:`~avalanche_ext.gradients.inspect_gradients`, which else is made.
    :param rows_per_pass: by default as many as keep the layers' inputs and outputs
        below 64 MiB on a CPU, 512 MiB on other devices. Memory does not depend on ``n``.
    :raises ValueError: for unknown parameters or if none is trainable, if ``x`` and
        ``y`` differ in rows, or if the criterion gives no loss for a row.

    I. Goodfellow, Efficient per-example gradient computations, 2015.

    >>> import torch
    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> x, y = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.ones(2, 1)
    >>> gradient_norms(model, nn.MSELoss(), x, y)
    tensor([10.,  2.])
    """
    return losses_and_gradient_norms(
        model,
        criterion,
        x,
        y,
        task,
        parameters=parameters,
        forward=forward,
        inspection=inspection,
        rows_per_pass=rows_per_pass,
    )[1]


def losses_and_gradient_norms(
    model: nn.Module,
    criterion: Criterion,
    x: Any,
    y: Any,
    task: Tensor | None = None,
    *,
    parameters: Parameters = "all",
    forward: Forward = forward_rows,
    inspection: Inspection | None = None,
    rows_per_pass: int | None = None,
) -> tuple[Tensor, Tensor]:
    """``L(x_i, y_i)`` and ``‖∇L(x_i, y_i)‖₂`` of each row from the same passes.

    :param model: any module; it is left as it was.
    :param criterion: the loss; see :func:`~avalanche_ext.gradients.per_sample_losses`.
    :param x: ``n`` rows of input, on any device; a tensor or nested tensors.
    :param y: ``n`` rows of targets.
    :param task: task labels, shape ``(n,)``, for models that take them.
    :param parameters: as that of :func:`gradient_norms`, which says more of all.
    :param forward: how the model is called with rows and their task labels.
    :param inspection: of
        :func:`~avalanche_ext.gradients.inspect_gradients`, which else is made.
    :param rows_per_pass: as that there.
    :return: two tensors of shape ``(n,)``.
    """
    problem = problem_of(model, forward, parameters)
    rows = same_rows(x=x, y=y, task=task)
    with differentiable(problem):
        losses, squares = problem.zeros(rows), problem.zeros(rows)
        for found in passes(
            problem, criterion, x, given(y), task, inspection, rows_per_pass
        ):
            losses[found.rows] = found.losses.to(losses.dtype)
            for part in found.parts:
                squares[found.rows][part.rows] += part.factor.square_norms()
        return losses, squares.sqrt_()
