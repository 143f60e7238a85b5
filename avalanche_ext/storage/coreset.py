"""Rows that cover the others: greedy k-center in feature space."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from avalanche_ext.storage.uniform import Draw, Reads, all_rows

# Numbers of a block of rows: on a CPU it stays in the cache from the difference to
# the sum, elsewhere a block costs launches.
_BLOCK_CPU, _BLOCK = 2**17, 2**24


def k_center(
    features: Tensor,
    k: int,
    *,
    start: int | None = None,
    centers: Tensor | None = None,
) -> Tensor:
    """``k`` rows, each the farthest from those before it.

    The next row is ``argmax_i min_c ‖x_i − x_c‖²`` over the rows ``c`` chosen so far
    and ``centers``; of several, the first. The largest distance left is at most twice
    the smallest that any choice reaches (without ``centers``: T. F. Gonzalez,
    Clustering to minimize the maximum intercluster distance, Theor. Comput. Sci. 38,
    1985; with them: O. Sener, S. Savarese, Active learning for convolutional neural
    networks: a core-set approach, ICLR 2018).

    Distances are sums of squared differences, not expanded into squared norms and
    products, which is no faster in blocks that fit the cache and would lose small
    distances between large features. Beside the features it holds one distance a row
    and one block.

    >>> k_center(torch.tensor([[0.0], [1.0], [9.0], [5.0]]), 3, start=0).tolist()
    [0, 2, 3]

    :param features: shape ``(n, d)``; of other dtypes than float32 and float64,
        computed in float32.
    :param k: number of rows; from ``n`` on, all rows in order.
    :param start: the first row; ``None``: the farthest from ``centers``, or without
        them the nearest to the mean.
    :param centers: features that are covered already, shape ``(m, d)``.
    :return: indices in the order of choice, shape ``(min(k, n),)``.
    :raises ValueError: for a negative ``k``, a ``start`` that is no row, other shapes,
        or features that are not finite, naming rows.
    """
    _check(features, k, start, centers)
    n = len(features)
    if k >= n:
        return torch.arange(n, device=features.device)
    chosen = torch.empty(k, dtype=torch.long, device=features.device)
    if not k:
        return chosen
    cover = _Cover(features.detach())
    for center in () if centers is None else centers.detach().to(features.device):
        cover.add(center)
    if start is not None:
        row = torch.tensor([start], device=features.device)
    elif centers is not None and len(centers):
        row = cover.farthest()
    else:
        row = cover.nearest_to_mean()
    for position in range(k):
        if position:
            row = cover.farthest()
        chosen[position : position + 1] = row
        if position < k - 1:
            cover.add_row(row)
    return chosen


class _Cover:
    """Squared distance of each row to the nearest centre so far, −1 of a centre."""

    def __init__(self, features: Tensor) -> None:
        wide = features.dtype in (torch.float32, torch.float64)
        self._dtype = features.dtype if wide else torch.float32
        cpu = features.device.type == "cpu"
        size = max(1, (_BLOCK_CPU if cpu else _BLOCK) // max(1, features.shape[1]))
        self._features = features
        self._distance = torch.full(
            (len(features),), torch.inf, dtype=self._dtype, device=features.device
        )
        blocks = torch.split(features, size)
        gap = torch.empty(blocks[0].shape, dtype=self._dtype, device=features.device)
        self._steps = [
            (block, nearest, gap[: len(block)])
            for block, nearest in zip(
                blocks, torch.split(self._distance, size), strict=True
            )
        ]
        self._checked = False

    def add(self, center: Tensor) -> None:
        """One more centre, shape ``(d,)``."""
        center = center.to(self._dtype)
        for block, nearest, gap in self._steps:
            if block.dtype is not self._dtype:
                block = block.to(self._dtype)
            torch.sub(block, center, out=gap)
            torch.minimum(nearest, gap.square_().sum(1), out=nearest)
        if not self._checked:
            self._check_finite()
            self._checked = True

    def add_row(self, row: Tensor) -> None:
        """One more centre, the row at an index of shape ``(1,)``."""
        self.add(self._features.index_select(0, row)[0])
        self._distance.index_fill_(0, row, -1.0)  # not chosen again, not even by a tie

    def farthest(self) -> Tensor:
        return self._distance.argmax(dim=0, keepdim=True)

    def nearest_to_mean(self) -> Tensor:
        """The row, of distances that are then forgotten."""
        self.add(self._features.mean(0, dtype=self._dtype))
        row = self._distance.argmin(dim=0, keepdim=True)
        self._distance.fill_(torch.inf)
        return row

    def _check_finite(self) -> None:
        if self._distance.isfinite().all():
            return
        rows = (~self._features.isfinite().all(1)).nonzero().flatten().tolist()
        if rows:
            raise ValueError(
                f"features of {len(rows)} of {len(self._features)} rows are not finite "
                f"(the first is row {rows[0]}): k-center needs distances"
            )
        raise ValueError(
            f"squared distances between features overflow {self._dtype}: scale the "
            "features down"
        )


def _check(features: Tensor, k: int, start: int | None, centers: Tensor | None) -> None:
    if features.ndim != 2:
        raise ValueError(
            f"features must have shape (n, d), got {tuple(features.shape)}: flatten "
            "each row"
        )
    if k < 0:
        raise ValueError(f"k must be a number of rows from 0 on, got {k}")
    if start is not None and not 0 <= start < len(features):
        raise ValueError(
            f"start must be one of the {len(features)} rows, 0 … {len(features) - 1}, "
            f"got {start}"
        )
    if centers is not None:
        if centers.ndim != 2 or centers.shape[1] != features.shape[1]:
            raise ValueError(
                f"centers must have shape (m, {features.shape[1]}), as the features, "
                f"got {tuple(centers.shape)}"
            )
        if not centers.isfinite().all():
            raise ValueError("centers are not finite: k-center needs distances")


@dataclass(frozen=True)
class Coreset:
    """Draws that cover the stored rows: :func:`k_center` from a random first row.

    Every draw costs ``n`` passes over the features, and is but little random: what
    lies far out is in nearly every one. Importance weights are 1.

    :param name: the sampling's.
    """

    name: str = "coreset"
    reads: ClassVar[Reads] = "features"
    weighs: ClassVar[bool] = False

    def draw(self, n: int, features: Tensor, generator: Generator) -> Draw:
        """``n`` rows; of ``n`` or fewer all rows, once each and in order.

        :param features: shape ``(stored, d)``; distances are computed where they are.
        :param generator: draws the first row, and gives the device of the result.
        :raises ValueError: for features refused by :func:`k_center`.
        """
        stored = len(features)
        if n >= stored:
            return all_rows(stored, generator)
        device = generator.device
        start = torch.randint(stored, (), generator=generator, device=device)
        index = k_center(features, n, start=int(start)).to(device)
        return Draw(index, torch.ones(n, device=device))
