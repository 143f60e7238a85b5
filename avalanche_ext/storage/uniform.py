"""Uniform draws of rows, and what every draw is."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

_ORDER_ALL_BELOW = 2**14  # rows up to which ordering all is the cheapest single draw


Reads = Literal["nothing", "scores", "features"]
"""What a sampling looks at: nothing, the rows' scores, or their features."""


@dataclass(frozen=True)
class Draw:
    """Rows drawn, in the order of drawing."""

    index: Tensor
    """int64, shape ``(n,)``."""
    weight: Tensor
    """Importance weight of each, shape ``(n,)``; 1 where nothing is corrected."""


def all_rows(stored: int, generator: torch.Generator) -> Draw:
    """Every row once, in order: what a draw of too many is. No number is drawn."""
    device = generator.device
    return Draw(torch.arange(stored, device=device), torch.ones(stored, device=device))


@dataclass(frozen=True)
class Uniform:
    """Every row alike, without replacement."""

    name: str = "uniform"
    reads: ClassVar[Reads] = "nothing"
    weighs: ClassVar[bool] = False


def uniform(
    stored: int, size: int, generator: torch.Generator, draws: int = 1
) -> Tensor:
    """``draws`` independent draws of ``size`` of ``stored`` rows without replacement.

    Every ordered choice of distinct rows has the same probability
    ``(stored − size)! / stored!``: a draw is the first ``size`` distinct rows of a
    sequence drawn with replacement, or, where that costs more, the start of a random
    order of all rows.

    >>> uniform(5, 5, torch.Generator().manual_seed(0)).sort().values.tolist()
    [[0, 1, 2, 3, 4]]

    :return: indices, shape ``(draws, size)``.
    :raises ValueError: when more rows are asked for than are stored.
    """
    if size > stored:
        raise ValueError(f"{size} rows asked for without replacement of {stored}")
    if draws == 1 and stored <= _ORDER_ALL_BELOW:
        return torch.randperm(stored, generator=generator)[None, :size]
    if 2 * size > stored:
        keys = torch.rand(draws, stored, generator=generator, dtype=torch.float64)
        return keys.argsort(dim=1)[:, :size].contiguous()
    # So many with replacement hold `size` distinct ones almost always.
    expected = -stored * math.log1p(-size / stored)
    length = math.ceil(expected + 3 * math.sqrt(expected)) if size > 1 else size
    chosen = torch.empty(draws, size, dtype=torch.long)
    todo = torch.arange(draws)
    while len(todo):
        sequence = torch.randint(stored, (len(todo), length), generator=generator)
        fresh = _first_occurrences(sequence)
        # Too short a sequence is drawn again: no row is favoured by that.
        enough = fresh.sum(dim=1) >= size
        order = (~fresh[enough]).to(torch.uint8).argsort(dim=1, stable=True)
        chosen[todo[enough]] = sequence[enough].gather(1, order[:, :size])
        todo = todo[~enough]
    return chosen


def _first_occurrences(sequence: Tensor) -> Tensor:
    """Of each row of ``sequence``: whether a value appears for the first time."""
    values, order = sequence.sort(dim=1, stable=True)
    fresh = torch.ones_like(values, dtype=torch.bool)
    fresh[:, 1:] = values[:, 1:] != values[:, :-1]
    return torch.empty_like(fresh).scatter_(1, order, fresh)
