"""Rows of tensors and of nested mappings, lists and tuples of tensors."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


def count_rows(batch: Any) -> int:
    """Rows of a tensor, or of the first tensor of nested tensors."""
    if isinstance(batch, Tensor):
        return len(batch)
    inner = batch.values() if isinstance(batch, Mapping) else batch
    return next(count_rows(value) for value in inner)


def has_rows(batch: Any) -> bool:
    """Whether there are tensors whose rows can be counted."""
    if isinstance(batch, Tensor):
        return batch.dim() > 0
    inner = batch.values() if isinstance(batch, Mapping) else batch
    return isinstance(inner, Iterable) and any(
        not isinstance(value, str) and has_rows(value) for value in inner
    )


def same_rows(**batches: Any) -> int:
    """Rows of all of these; ``None`` counts as any number.

    :raises ValueError: if they differ.
    """
    counts = {n: count_rows(batch) for n, batch in batches.items() if batch is not None}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ValueError(f"{found} rows; they must have the same number")
    return next(iter(counts.values()))


def take(batch: Any, rows: slice | Tensor) -> Any:
    """These rows of a tensor, or of nested mappings, lists and tuples of tensors."""
    return apply(batch, lambda values: values[rows])


def apply(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``function`` of each tensor of nested mappings, lists and tuples."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {name: apply(value, function) for name, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        values = [apply(value, function) for value in batch]
        named = hasattr(batch, "_fields")
        return type(batch)(*values) if named else type(batch)(values)
    return batch


def linear(output: Any) -> Tensor:
    """All numbers of an output by rows, times numbers that depend on their place.

    Their sum has a gradient wherever the output has, whatever the loss.

    :return: shape ``(n, k)``.
    """
    if isinstance(output, Tensor):
        flat = output.flatten(1) if output.dim() > 1 else output[:, None]
        place = torch.arange(flat.shape[1], device=flat.device)
        scaled: Tensor = flat * (2 + torch.cos(place)).to(flat.dtype)
        return scaled
    values = output.values() if isinstance(output, Mapping) else output
    return torch.cat([linear(value) for value in values], 1)
