"""Which rows to replay: policies that return indices."""

import torch
from torch import Tensor

# Below this many collisions expected a draw, whole draws are rejected; above it,
# every draw orders all rows.
_REJECT_BELOW = 1.0


def uniform(
    stored: int, size: int, generator: torch.Generator, draws: int = 1
) -> Tensor:
    """``draws`` independent draws of ``size`` of ``stored`` rows without replacement.

    Every ordered choice of distinct rows has the same probability
    ``(stored − size)! / stored!``. Small draws of many rows are drawn with
    replacement and redrawn while any row repeats, which leaves the distribution
    over distinct rows exactly uniform; the others sort random keys.

    >>> uniform(5, 5, torch.Generator().manual_seed(0)).sort().values.tolist()
    [[0, 1, 2, 3, 4]]

    :return: indices, shape ``(draws, size)``.
    :raises ValueError: when more rows are asked for than are stored.
    """
    if size > stored:
        raise ValueError(f"{size} rows asked for without replacement of {stored}")
    if size * (size - 1) / 2 / max(stored, 1) >= _REJECT_BELOW:
        keys = torch.rand(draws, stored, generator=generator, dtype=torch.float64)
        return keys.argsort(dim=1)[:, :size].contiguous()
    index = torch.randint(stored, (draws, size), generator=generator)
    while True:
        ordered = index.sort(dim=1).values
        repeats = (ordered[:, 1:] == ordered[:, :-1]).any(dim=1).nonzero()[:, 0]
        if len(repeats) == 0:
            return index
        index[repeats] = torch.randint(
            stored, (len(repeats), size), generator=generator
        )
