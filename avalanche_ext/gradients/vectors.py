"""Gradients as vectors, of rows and of groups of rows, and cosines between them."""

from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext.gradients.inspection import Inspection, inspect_rows
from avalanche_ext.gradients.losses import Criterion, per_sample_losses
from avalanche_ext.gradients.passes import given, passes, rows_a_pass
from avalanche_ext.gradients.problem import (
    Forward,
    Parameters,
    Problem,
    differentiable,
    forward_rows,
    problem_of,
)
from avalanche_ext.gradients.rows import same_rows, take

_BLOCK_BYTES = 1 << 27


def parameter_slices(
    model: nn.Module, parameters: Parameters = "all"
) -> dict[str, slice]:
    """Where each trainable parameter lies in a gradient vector, in the model's order.

    :raises ValueError: for unknown parameters, or if none is trainable.
    """
    return _slices(problem_of(model, parameters=_no_last(parameters)))


def gradient_vectors(
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
    """``∇L(x_i, y_i)`` of each row as a vector, shape ``(n, P)``.

    The result takes ``n · P`` numbers; for cosines alone :func:`gradient_cosines`
    needs less. Its columns are those of :func:`parameter_slices`.

    :param model: any module; it is left as it was.
    :param criterion: the loss; see :func:`~avalanche_ext.gradients.per_sample_losses`.
    :param x: ``n`` rows of input, on any device; a tensor or nested tensors.
    :param y: ``n`` rows of targets.
    :param task: task labels, shape ``(n,)``, for models that take them.
    :param parameters: ``"all"`` or names.
    :param forward: how the model is called with rows and their task labels.
    :param inspection: of
        :func:`~avalanche_ext.gradients.inspect_gradients`, which else is made.
    :param rows_per_pass: as that of :func:`~avalanche_ext.gradients.gradient_norms`.
    :raises ValueError: as :func:`~avalanche_ext.gradients.gradient_norms`.
    """
    problem = problem_of(model, forward, _no_last(parameters))
    slices = _slices(problem)
    rows = same_rows(x=x, y=y, task=task)
    with differentiable(problem):
        vectors = problem.zeros(rows, next(reversed(slices.values())).stop)
        for found in passes(
            problem, criterion, x, given(y), task, inspection, rows_per_pass
        ):
            for part in found.parts:
                gradients = part.factor.rows()
                flat = gradients.reshape(len(gradients), -1)
                vectors[found.rows][part.rows, slices[part.name]] = flat
    return vectors


def group_gradients(
    model: nn.Module,
    criterion: Criterion,
    x: Any,
    y: Any,
    groups: Tensor,
    task: Tensor | None = None,
    *,
    parameters: Parameters = "all",
    forward: Forward = forward_rows,
    inspection: Inspection | None = None,
    rows_per_pass: int | None = None,
) -> Tensor:
    """The mean of ``∇L(x_i, y_i)`` over the rows of each group, shape ``(groups, P)``.

    One backward pass for each group; memory does not depend on the number of rows.

    :param model: any module; it is left as it was.
    :param criterion: the loss; see :func:`~avalanche_ext.gradients.per_sample_losses`.
    :param x: ``n`` rows of input, on any device; a tensor or nested tensors.
    :param y: ``n`` rows of targets.
    :param groups: the number of each row's group, shape ``(n,)``; group ``g`` of
        ``0 … max`` is row ``g`` of the result, which is zero for a group without rows.
    :param task: task labels, shape ``(n,)``, for models that take them.
    :param parameters: ``"all"`` or names.
    :param forward: how the model is called with rows and their task labels.
    :param inspection: of
        :func:`~avalanche_ext.gradients.inspect_gradients`, which else is made.
    :param rows_per_pass: as that of :func:`~avalanche_ext.gradients.gradient_norms`.
    :raises ValueError: as :func:`~avalanche_ext.gradients.gradient_norms`.
    """
    problem = problem_of(model, forward, _no_last(parameters))
    slices = _slices(problem)
    rows = same_rows(x=x, y=y, task=task, groups=groups)
    wanted = list(problem.parameters.values())
    count = int(groups.max()) + 1 if rows else 0
    with differentiable(problem):
        vectors = problem.zeros(count, next(reversed(slices.values())).stop)
        if not rows:
            return vectors
        if inspection is None or not inspection.fits(problem):
            inspection = inspect_rows(problem, x, task)
        step = rows_a_pass(problem, inspection, rows_per_pass)
        for group, vector in enumerate(vectors):
            members = (groups == group).nonzero()[:, 0]
            for start in range(0, len(members), step):
                some = members[start : start + step]
                batch = problem.place(take((x, y, task), some))
                output = problem.output(batch[0], batch[2])
                loss = per_sample_losses(criterion, output, batch[1]).sum()
                if not loss.requires_grad:
                    continue
                found = torch.autograd.grad(loss, wanted, allow_unused=True)
                for place, gradient in zip(slices.values(), found, strict=True):
                    if gradient is not None:
                        mean = gradient.to_dense().flatten() / len(members)
                        vector[place] += mean
    return vectors


def gradient_cosines(
    model: nn.Module,
    criterion: Criterion,
    x: Any,
    y: Any,
    task: Tensor | None = None,
    *,
    against: Tensor | None = None,
    parameters: Parameters = "all",
    forward: Forward = forward_rows,
    inspection: Inspection | None = None,
    rows_per_pass: int | None = None,
) -> Tensor:
    """Cosines between the gradients of rows, shape ``(n, n)``, or with given vectors.

    No more than two blocks of 128 MiB of gradients exist at a time; with more rows than
    a block holds, blocks are computed again for each pair.

    :param model: any module; it is left as it was.
    :param criterion: the loss; see :func:`~avalanche_ext.gradients.per_sample_losses`.
    :param x: ``n`` rows of input, on any device; a tensor or nested tensors.
    :param y: ``n`` rows of targets.
    :param task: task labels, shape ``(n,)``, for models that take them.
    :param against: vectors to compare with, shape ``(m, P)``; the result then has shape
        ``(n, m)``.
    :param parameters: ``"all"`` or names.
    :param forward: how the model is called with rows and their task labels.
    :param inspection: of
        :func:`~avalanche_ext.gradients.inspect_gradients`, which else is made.
    :param rows_per_pass: as that of :func:`~avalanche_ext.gradients.gradient_norms`.
    :return: :func:`cosines`.
    :raises ValueError: as :func:`~avalanche_ext.gradients.gradient_norms`, or if
        ``against`` does not have ``P`` columns.
    """
    problem = problem_of(model, forward, _no_last(parameters))
    width = next(reversed(_slices(problem).values())).stop
    if against is not None and (against.dim() != 2 or against.shape[1] != width):
        raise ValueError(
            f"against has shape {tuple(against.shape)}; it must be (m, {width}), the "
            "parameters' numbers in the order of parameter_slices"
        )
    rows = same_rows(x=x, y=y, task=task)
    with differentiable(problem):
        result = problem.zeros(rows, rows if against is None else len(against))
        if inspection is None and rows:
            inspection = inspect_rows(problem, x, task)
    step = max(1, _BLOCK_BYTES // (width * result.element_size()))

    def block(start: int) -> Tensor:
        some = take((x, y, task), slice(start, start + step))
        return gradient_vectors(
            model,
            criterion,
            *some,
            parameters=parameters,
            forward=forward,
            inspection=inspection,
            rows_per_pass=rows_per_pass,
        )

    for first in range(0, rows, step):
        vectors = block(first)
        these = slice(first, first + step)
        if against is not None:
            result[these] = cosines(vectors, against.to(vectors))
            continue
        result[these, these] = cosines(vectors, vectors)
        for second in range(first + step, rows, step):
            others = slice(second, second + step)
            result[these, others] = cosines(vectors, block(second))
            result[others, these] = result[these, others].T
    return result


def cosines(a: Tensor, b: Tensor | None = None) -> Tensor:
    """``⟨a_i, b_j⟩ / (‖a_i‖ ‖b_j‖)``, shape ``(n, m)``; 0 where a vector is zero.

    :param a: vectors, shape ``(n, P)``.
    :param b: vectors, shape ``(m, P)``; by default ``a``.

    >>> cosines(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
    tensor([[1.],
            [0.]])
    """
    b = a if b is None else b
    with torch.autocast(a.device.type, enabled=False):
        first, second = (torch.linalg.vecdot(v, v).sqrt() for v in (a, b))
        lengths = first[:, None] * second
        return torch.where(lengths > 0, a @ b.T / lengths, 0).clamp(-1, 1)


def _slices(problem: Problem) -> dict[str, slice]:
    start, slices = 0, {}
    for name, parameter in problem.parameters.items():
        slices[name] = slice(start, start + parameter.numel())
        start += parameter.numel()
    return slices


def _no_last(parameters: Parameters) -> Parameters:
    if parameters == "last":
        raise ValueError("parameters='last' is for norms; give the parameters' names")
    return parameters
