"""The loss of each row under a criterion that returns one number for a batch."""

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext.gradients.rows import count_rows, take

Criterion = Callable[[Any, Any], Tensor]


def per_sample_losses(criterion: Criterion, output: Any, target: Any) -> Tensor:
    """The loss of each row, shape ``(n,)``.

    One rule for all criteria: the elementwise loss, class weights and label smoothing
    included, averaged over the row's own elements (tokens, regression outputs), or
    summed where the criterion's ``reduction`` is ``"sum"`` or ``"batchmean"``. Elements
    whose target is ``ignore_index`` are not counted; a row without any other has loss 0.
    So a class weight multiplies a row's loss: it is not divided by the sum of weights,
    as it is in torch's mean over a batch.

    Elementwise losses come from a copy of the criterion with ``reduction="none"``, or
    from a function with such an argument. Any other criterion is called on one row at a
    time, which is slower. The criterion itself is not changed.

    :param criterion: of ``torch.nn`` or ``torch.nn.functional``, or any other callable
        that makes a tensor of an output and a target.
    :param output: of the model, ``n`` rows.
    :param target: ``n`` rows.
    :raises ValueError: if the criterion does not return one number for one row.

    >>> output, target = torch.zeros(2, 4), torch.tensor([1, 3])
    >>> per_sample_losses(nn.CrossEntropyLoss(), output, target)
    tensor([1.3863, 1.3863])
    """
    elementwise, reduction = _elementwise(criterion)
    rows = count_rows(output)
    if elementwise is not None:
        losses = elementwise(output, target)
        if isinstance(losses, Tensor) and losses.dim() and len(losses) == rows:
            return _reduced(losses, _counted(criterion, target), reduction)
    return torch.stack(
        [
            _single(criterion, take(output, slice(i, i + 1)), target, i)
            for i in range(rows)
        ]
        or [torch.zeros(())]
    )[:rows]


def reduction_of(criterion: Criterion) -> str:
    """How a criterion makes one number of a batch: ``"sum"``, ``"mean"`` and the like.

    ``"mean"`` of a criterion that does not say.

    >>> reduction_of(partial(nn.functional.cross_entropy, reduction="sum"))
    'sum'
    """
    return _elementwise(criterion)[1]


def _elementwise(criterion: Criterion) -> tuple[Criterion | None, str]:
    if isinstance(criterion, nn.Module):
        if not isinstance(getattr(criterion, "reduction", None), str):
            return None, "mean"
        unreduced = copy.copy(criterion)
        reduction = str(unreduced.reduction)
        unreduced.reduction = "none"  # type: ignore[assignment]
        return unreduced, reduction
    try:
        argument = inspect.signature(criterion).parameters.get("reduction")
    except (TypeError, ValueError):  # a function that is not written in Python
        argument = None
    if argument is None or argument.kind is argument.POSITIONAL_ONLY:
        return None, "mean"
    return partial(criterion, **{"reduction": "none"}), str(argument.default)


def _counted(criterion: Criterion, target: Any) -> Tensor | None:
    if isinstance(criterion, partial):
        ignored = criterion.keywords.get("ignore_index")
    else:
        ignored = getattr(criterion, "ignore_index", None)
    if ignored is None or target.is_floating_point():  # class probabilities
        return None
    counted: Tensor = target != ignored
    return counted


def _reduced(losses: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
    if losses.dim() == 1:
        return losses
    sums = losses.flatten(1).sum(1)
    if reduction in ("sum", "batchmean"):
        return sums
    if counted is None:
        return sums / losses[0].numel()
    return sums / counted.flatten(1).sum(1).clamp(min=1)


def _single(criterion: Criterion, output: Any, target: Any, row: int) -> Tensor:
    loss = criterion(output, take(target, slice(row, row + 1)))
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            f"the criterion returned {found} for one row; it must return one number, "
            "or have a reduction='none' that returns one value or more for each row"
        )
    return loss.reshape(())
