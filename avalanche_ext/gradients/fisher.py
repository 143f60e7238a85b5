"""The diagonal of the Fisher information: mean squared gradients of single rows."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext.gradients.inspection import Inspection
from avalanche_ext.gradients.losses import Criterion
from avalanche_ext.gradients.passes import Labels, given, passes
from avalanche_ext.gradients.problem import (
    Forward,
    Parameters,
    differentiable,
    forward_rows,
    problem_of,
)
from avalanche_ext.gradients.rows import same_rows, take

FisherLabels = Literal["sampled", "empirical", "exact", "weighted"]


def diagonal_fisher(
    model: nn.Module,
    x: Any,
    y: Any = None,
    task: Tensor | None = None,
    *,
    labels: FisherLabels = "sampled",
    criterion: Criterion = F.cross_entropy,
    weights: Tensor | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    generator: torch.Generator | None = None,
    parameters: Parameters = "all",
    forward: Forward = forward_rows,
    inspection: Inspection | None = None,
    rows_per_pass: int | None = None,
) -> dict[str, Tensor]:
    """``F = Σ_i w_i g_i² / Σ_i w_i``, by parameter, with the gradient ``g_i`` of row i.

    ``g_i`` is ``∇L(x_i, y_i)`` for labels given (``"empirical"``),
    ``∇ log p(ŷ_i | x_i)`` for labels ``ŷ_i`` drawn from the model's own distribution
    (``"sampled"``), and ``g_i² = Σ_c p(c | x_i) (∇ log p(c | x_i))²`` for all classes
    (``"exact"``), where ``p`` is the softmax of the model's output. Each square is that
    of a single row, so that the result does not depend on the batch size.
    (``"weighted"``, the term of the exact sum for the label given, is no estimate of it:
    some published figures were made with it.)

    :param model: any module; it is left as it was.
    :param x: ``n`` rows of input, on any device; a tensor or nested tensors.
    :param y: targets, for ``"empirical"`` and ``"weighted"`` alone.
    :param task: task labels, shape ``(n,)``, for models that take them.
    :param labels: what the loss of a row is taken for, see above.
    :param criterion: for ``"empirical"`` alone; see
        :func:`~avalanche_ext.gradients.per_sample_losses`.
    :param weights: ``w_i ≥ 0``, shape ``(n,)``; 1 each by default.
    :param reduction: ``"sum"`` leaves out the division, so that the results of several
        batches can be added.
    :param generator: that labels are drawn with, on the model's device; by default
        one that torch's global one seeds. Nothing else draws a number.
    :param parameters: ``"all"`` or names. Frozen ones are left out.
    :param forward: how the model is called with rows and their task labels.
    :param inspection: of
        :func:`~avalanche_ext.gradients.inspect_gradients`, which else is made.
    :param rows_per_pass: as that of :func:`~avalanche_ext.gradients.gradient_norms`.
    :return: one tensor in the shape of each parameter; zero where no row uses it.
    :raises ValueError: for outputs that are no class scores (``(n, classes)``; with
        ``"sampled"`` also ``(n, classes, …)``), ``"empirical"`` without ``y``, weights
        that do not fit, and as :func:`~avalanche_ext.gradients.gradient_norms`.

    F. Kunstner et al., Limitations of the empirical Fisher approximation, NeurIPS 2019.

    >>> model = nn.Linear(1, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> diagonal_fisher(model, torch.tensor([[2.0]]), labels="exact")
    {'weight': tensor([[1.],
            [1.]])}
    """
    if parameters == "last":
        raise ValueError("parameters='last' is for norms; give the parameters' names")
    problem = problem_of(model, forward, parameters)
    if labels not in get_args(FisherLabels):
        raise ValueError(
            f"labels={labels!r}; it must be 'sampled', 'empirical', 'exact' or 'weighted'"
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction={reduction!r}; it must be 'mean' or 'sum'")
    if labels in ("empirical", "weighted") and y is None:
        raise ValueError(f"labels={labels!r} needs targets: y is None")
    rows = same_rows(x=x, y=y, task=task, weights=weights)
    if weights is not None and not bool((weights >= 0).all()):
        raise ValueError("weights must be one number a row, none below 0")
    makers: dict[str, Labels] = {
        "sampled": lambda output, _: [(_drawn(output, generator), None)],
        "exact": lambda output, _: _each_class(output),
        "empirical": given(y),
        "weighted": lambda output, rows: [_own(output, take(y, rows))],
    }
    if labels == "sampled" and generator is None:
        # The model may not move the global random state; the labels do.
        seed = int(torch.randint(1 << 62, ()))
        generator = torch.Generator(problem.device).manual_seed(seed)
    loss = criterion if labels == "empirical" else F.cross_entropy
    with differentiable(problem):
        scale = problem.zeros(rows) + (
            1 if weights is None else weights.to(problem.device)
        )
        if reduction == "mean":
            scale /= scale.sum()
        sums = {n: torch.zeros_like(p.detach()) for n, p in problem.parameters.items()}
        for found in passes(
            problem, loss, x, makers[labels], task, inspection, rows_per_pass
        ):
            own = scale[found.rows]
            if found.weights is not None:
                own = own * found.weights
            for part in found.parts:
                sums[part.name] += part.factor.square_sum(own[part.rows])
    return sums


def _drawn(output: Any, generator: torch.Generator | None) -> Tensor:
    """A class for each row, or each place of a row, drawn from the softmax."""
    scores = _scores(output)
    odds = scores.movedim(1, -1).softmax(-1)
    drawn = odds.reshape(-1, odds.shape[-1]).multinomial(1, generator=generator)
    return drawn.view(odds.shape[:-1])


def _each_class(output: Any) -> list[tuple[Any, Tensor | None]]:
    """All classes that have a probability, as labels of all rows."""
    scores = _scores(output)
    if scores.dim() != 2:
        raise ValueError(
            f"labels='exact' needs an output of shape (n, classes), not "
            f"{tuple(scores.shape)}; use labels='sampled'"
        )
    odds = scores.softmax(1)
    cases: list[tuple[Any, Tensor | None]] = []
    for label in odds.any(0).nonzero()[:, 0].tolist():
        target = torch.full((len(odds),), label, device=odds.device)
        cases.append((target, odds[:, label]))
    return cases


def _own(output: Any, y: Tensor) -> tuple[Any, Tensor]:
    """The labels given, and the probability of each."""
    scores = _scores(output)
    odds = scores.softmax(1)
    if scores.dim() != 2 or y.shape != scores.shape[:1]:
        raise ValueError(
            f"labels='weighted' needs an output of shape (n, classes) and a class for "
            f"each row, not {tuple(scores.shape)} and {tuple(y.shape)}; use "
            "labels='empirical'"
        )
    return y, odds.gather(1, y.to(odds.device)[:, None])[:, 0]


def _scores(output: Any) -> Tensor:
    if isinstance(output, Tensor) and output.dim() > 1 and output.is_floating_point():
        return output
    kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise ValueError(
        f"labels of the model's own need class scores of shape (n, classes), not {kind}; "
        "use labels='empirical'"
    )
