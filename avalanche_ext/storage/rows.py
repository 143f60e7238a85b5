"""Rows: a tensor, or a (nested) mapping of tensors, whose first dimension counts rows.

Inputs of a benchmark are tensors or dictionaries of tensors (tokenised text, several
sensors). Everything that moves rows goes through these functions, so that both
forms work everywhere; a plain tensor takes the first branch and pays nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, Union

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

Rows: TypeAlias = Union[Tensor, Mapping[str, "Rows"]]  # noqa: UP007 (a forward name)


def count(rows: Rows) -> int:
    """Number of rows.

    :raises ValueError: when the tensors of a mapping disagree, or there are none.
    """
    if isinstance(rows, Tensor):
        return len(rows)
    lengths = {name: len(leaf) for name, leaf in leaves(rows)}
    if len(set(lengths.values())) != 1:
        raise ValueError(
            f"the inputs of one batch must have one number of rows, got {lengths}: "
            "give every tensor of the mapping the same first dimension"
        )
    return next(iter(lengths.values()))


def check_rows(name: str, rows: Any) -> None:
    """Refuse what is no tensor of rows, nor a mapping of them.

    :raises TypeError: naming the first part that is neither.
    """
    if isinstance(rows, Tensor):
        if not rows.ndim:
            raise TypeError(
                f"{name} is a single number: its first dimension counts rows"
            )
    elif isinstance(rows, Mapping | TensorDictBase):
        for key, value in rows.items():
            check_rows(f"{name}.{key}", value)
    else:
        raise TypeError(
            f"{name} must be a tensor or a mapping of tensors, got "
            f"{type(rows).__name__}: give torch.as_tensor(…) of it"
        )


def check_slots(slots: Any, stored: int) -> None:
    """Refuse what are no slots of rows that are stored.

    :raises ValueError: naming what was given.
    """
    if not isinstance(slots, Tensor) or slots.dtype is not torch.int64:
        kind = getattr(slots, "dtype", type(slots).__name__)
        raise ValueError(
            f"slots must be a tensor of whole numbers, torch.int64, got {kind}: "
            "give mask.nonzero()[:, 0] of a mask"
        )
    outside = slots[(slots < 0) | (slots >= stored)]
    if len(outside):
        raise ValueError(
            f"slots must be those of the {stored} rows stored, from 0 on, got "
            f"{outside.tolist()[:5]}"
        )


def leaves(rows: Rows, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors with their dotted names, in the mapping's order."""
    if isinstance(rows, Tensor):
        yield prefix, rows
    else:
        for name, value in rows.items():
            yield from leaves(value, f"{prefix}.{name}" if prefix else str(name))


def each(function: Callable[[Tensor], Tensor], rows: Rows) -> Rows:
    """The same structure with ``function`` applied to each tensor."""
    if isinstance(rows, Tensor):
        return function(rows)
    return like(rows, {name: each(function, value) for name, value in rows.items()})


def flat(rows: Rows) -> Tensor:
    """All numbers of each row as a vector, float32, shape ``(n, d)``.

    :raises ValueError: for numbers that are no quantities, as those of tokens.
    """
    parts = []
    for name, leaf in leaves(rows):
        if not leaf.is_floating_point() and leaf.dtype is not torch.uint8:
            raise ValueError(
                f"rows are compared as vectors, and x{'.' * bool(name)}{name} holds "
                f"{leaf.dtype}, which may be no quantity: give floating-point or uint8 "
                "inputs, or choose an admission that does not compare them"
            )
        parts.append(leaf.reshape(len(leaf), leaf.shape[1:].numel()).float())
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def take(rows: Rows, index: Tensor) -> Rows:
    """The rows at ``index`` (a LongTensor, on any device), copied where they are."""
    if isinstance(rows, Tensor):
        if index.device != rows.device:
            index = index.to(rows.device)
        return rows.index_select(0, index)
    return like(rows, {name: take(value, index) for name, value in rows.items()})


def index_tensor(positions: Sequence[int] | Tensor) -> Tensor:
    """Positions as a LongTensor; by way of numpy, which reads a list sooner."""
    if isinstance(positions, Tensor):
        return positions
    return torch.from_numpy(np.array(positions, dtype=np.int64))


def part(rows: Rows, start: int, stop: int) -> Rows:
    """The rows ``start … stop − 1``, as views, in the mapping type that came in."""
    if isinstance(rows, Tensor):
        return rows[start:stop]
    return like(rows, {name: part(value, start, stop) for name, value in rows.items()})


def join(first: Rows, second: Rows) -> Rows:
    """``first`` followed by ``second``, in the mapping type of ``first``.

    :raises ValueError: when dtypes, shapes of a row, or names differ.
    """
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.dtype is not second.dtype or first.shape[1:] != second.shape[1:]:
            raise ValueError(
                f"memory rows of {second.dtype} {tuple(second.shape[1:])} cannot join a "
                f"batch of {first.dtype} {tuple(first.shape[1:])}: store rows in the form "
                "that the model takes, or give the transform that makes it"
            )
        return torch.cat((first, second))
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        raise ValueError(
            f"memory rows are {type(second).__name__}, the batch is "
            f"{type(first).__name__}: both must be tensors or mappings of one structure"
        )
    if set(first.keys()) != set(second.keys()):
        raise ValueError(
            f"memory rows have inputs {sorted(second.keys())}, the batch has "
            f"{sorted(first.keys())}: one memory serves one input structure"
        )
    names = list(first.keys())  # a TensorDict itself iterates over rows
    return like(first, {name: join(first[name], second[name]) for name in names})


def like(example: Rows, rows: Mapping[str, Rows]) -> Rows:
    """``rows`` in the mapping type of ``example``, which may have methods such as ``to``."""
    if type(example) is dict:
        return rows
    make: Any = type(example)
    if isinstance(example, TensorDictBase):
        made: Rows = make(dict(rows), batch_size=[count(rows)])
    else:
        made = make(rows)
    return made
