"""How far each row of a memory is from the nearest other, as rows come and go."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from avalanche_ext.storage.slots import moves

# Distances of one block: what stays in a processor's cache.
_BLOCK = 1 << 20


class Coverage(NamedTuple):
    """How near a memory is to given rows: their distances to its nearest row."""

    mean: float
    largest: float


class NearestDistance:
    """The distance of each stored row to the nearest other stored row.

    ``d_i = min_{j ≠ i} ‖f_i − f_j‖₂`` for feature vectors ``f``; ``inf`` for a single
    row. Rows are numbered as the memory's slots, ``0 … len − 1``, and written, replaced
    and removed as they are.

    Nothing is computed until :attr:`distances` is asked for. Then the rows written
    since are compared with all, in one pass over the matrix, and a row is compared with
    all again only if its nearest row is gone and no row written since is as near. With
    ``n`` rows of ``d`` features, ``k`` of them written, that is about ``2k·n·d``
    multiplications (each row is the nearest one of one row on average) against
    ``n²·d`` for all.

    No tree is kept. In a few dimensions a k-d tree finds a neighbour by looking at a few
    leaves, in the hundreds of dimensions of features it looks at nearly all rows, one
    at a time, and has to be built again as rows change. Measured on one thread with
    5,000 normal vectors: the nearest rows of ten take a SciPy tree 0.5, 1.5, 6.6 and 21
    ms in 16, 64, 128 and 400 dimensions, besides 1.3 to 15 ms to build it; the pass here
    0.1, 0.2, 0.4 and 0.8 ms. Ten rows replaced cost 0.6, 0.9, 1.4 and 2.5 ms in all.

    Distances come from products, ``‖a‖² + ‖b‖² − 2 a·b``, which find the nearest row up
    to about 1e-6 of the squared norms in float32; the distance to the row found is then
    computed from the difference, so that equal rows have distance 0.

    >>> nearest = NearestDistance()
    >>> nearest.insert(torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]))
    >>> nearest.distances.tolist()
    [5.0, 1.0, 1.0]
    >>> _ = nearest.remove([2])
    >>> nearest.distances.tolist()
    [5.0, 5.0]
    """

    def __init__(self) -> None:
        self._length = 0
        self._features = torch.zeros(0, 0)
        self._squares = torch.zeros(0)
        self._distances = torch.zeros(0)
        self._neighbours = torch.zeros(0, dtype=torch.long)  # −1: gone, or none
        self._written = torch.zeros(0, dtype=torch.bool)  # since distances were asked

    def __len__(self) -> int:
        return self._length

    @property
    def features(self) -> Tensor:
        """The rows' features, shape ``(n, d)``, as a view."""
        return self._features[: self._length]

    @property
    def distances(self) -> Tensor:
        """``d_i`` of each row, shape ``(n,)``, as a view."""
        self._settle()
        return self._distances[: self._length]

    # Changes

    def insert(self, features: Tensor) -> None:
        """Add rows after those there.

        :param features: shape ``(k, d)``.
        """
        start = self._length
        self.write(torch.arange(start, start + len(features)), features)

    def replace(self, slots: Tensor, features: Tensor) -> None:
        """Give the rows at ``slots`` other features.

        :raises ValueError: for a slot without a row.
        """
        if len(slots) and int(slots.max()) >= self._length:
            raise ValueError(
                f"there are {self._length} rows, none at slot {int(slots.max())}: "
                "insert it"
            )
        self.write(slots, features)

    def write(self, slots: Tensor, features: Tensor) -> None:
        """Write rows at ``slots``; those at or above ``len`` continue it without a gap.

        :param slots: distinct slots, shape ``(k,)``.
        :param features: of these rows, shape ``(k, d)``; kept as floating point, where
            the first were.
        :raises ValueError: when lengths disagree, a gap is left, or features are not
            finite or have another width than those there.
        """
        if features.ndim != 2 or len(features) != len(slots):
            raise ValueError(
                f"features of shape {tuple(features.shape)} for {len(slots)} slots: "
                "give one vector a slot"
            )
        if not len(slots):
            return
        if self._length and features.shape[1] != self._features.shape[1]:
            raise ValueError(
                f"features have {features.shape[1]} numbers, those stored have "
                f"{self._features.shape[1]}: a memory compares features of one layer"
            )
        length = max(self._length, int(slots.max()) + 1)
        if int((slots >= self._length).sum()) != length - self._length:
            raise ValueError(
                f"new slots must continue the {self._length} rows held without a gap, "
                f"got {slots.tolist()}"
            )
        finite = features.isfinite().all(1)
        if not finite.all():
            raise ValueError(
                f"the features for slots {slots[~finite.to(slots.device)].tolist()} are "
                "not finite: distances to them are not defined"
            )
        self._reserve(length, features)
        slots = slots.to(self._features.device)
        features = features.detach().to(self._features)
        self._features.index_copy_(0, slots, features)
        self._squares.index_copy_(0, slots, features.square().sum(1))
        self._neighbours.index_fill_(0, slots, -1)
        self._written.index_fill_(0, slots, True)

    def remove(self, slots: list[int]) -> dict[int, int]:
        """Remove rows; the last rows move into the holes, as
        :meth:`~avalanche_ext.storage.table.ExemplarTable.remove` has it.

        :return: old slot → new slot of the rows that moved.
        :raises ValueError: for a slot without a row.
        """
        gone = set(slots)
        moved = moves(gone, self._length)
        if not gone:
            return {}
        movers, holes = list(moved), list(moved.values())
        place = torch.arange(self._length)
        place[list(gone)] = -1
        if movers:
            place[movers] = torch.tensor(holes)
        place = place.to(self._features.device)
        known = self._neighbours[: self._length]
        known.copy_(torch.where(known >= 0, place[known.clamp(min=0)], -1))
        if movers:
            for column in self._columns().values():
                column[holes] = column[movers]
        self._length -= len(gone)
        return moved

    # What is known of other rows

    def distances_to(self, features: Tensor) -> Tensor:
        """The distance of each of other rows to the nearest stored row.

        :param features: shape ``(m, d)``.
        :return: shape ``(m,)``; ``inf`` without stored rows.
        """
        features = features.detach().to(self._features.device)
        if not self._length:
            return features.new_full((len(features),), torch.inf)
        features = features.to(self._features)
        found = [self._nearest(some)[0] for some in self._blocks(features)]
        return torch.cat(found) if found else features.new_zeros(0)

    def coverage(self, features: Tensor) -> Coverage:
        """Mean and largest distance of given rows, recent ones say, to the nearest
        stored row: small where the memory stands for them.

        :param features: shape ``(m, d)``.
        :raises ValueError: without rows.
        """
        if not len(features):
            raise ValueError("coverage of no rows: give the features of recent rows")
        distances = self.distances_to(features)
        return Coverage(distances.mean().item(), distances.max().item())

    # State

    def state_dict(self) -> dict[str, Any]:
        """Features and distances, as plain tensors."""
        self._settle()
        columns = self._columns().items()
        return {name: column[: self._length].clone() for name, column in columns}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a ``state_dict``."""
        self._length = len(state["features"])
        self._features = state["features"].clone()
        self._squares = state["squares"].clone()
        self._distances = state["distances"].clone()
        self._neighbours = state["neighbours"].clone()
        self._written = state["written"].clone()

    def _columns(self) -> dict[str, Tensor]:
        return {
            "features": self._features,
            "squares": self._squares,
            "distances": self._distances,
            "neighbours": self._neighbours,
            "written": self._written,
        }

    def _reserve(self, length: int, like: Tensor) -> None:
        """Make room for ``length`` rows, for twice as many as there were at least."""
        if not self._length:
            kind = like.dtype if like.dtype is torch.float64 else torch.float32
            self._features = torch.zeros(
                0, like.shape[1], dtype=kind, device=like.device
            )
            self._squares = self._features.new_zeros(0)
            self._distances = self._features.new_zeros(0)
            self._neighbours = self._features.new_zeros(0, dtype=torch.long)
            self._written = self._features.new_zeros(0, dtype=torch.bool)
        size = len(self._features)
        if length > size:
            more = max(length, 2 * size) - size
            self._features, self._squares, self._distances = (
                torch.cat([column, column.new_zeros(more, *column.shape[1:])])
                for column in (self._features, self._squares, self._distances)
            )
            self._neighbours = torch.cat(
                [self._neighbours, self._neighbours.new_full((more,), -1)]
            )
            self._written = torch.cat([self._written, self._written.new_zeros(more)])
        self._length = length

    # Distances

    def _settle(self) -> None:
        """Bring distances up to date with what was written and removed."""
        n = self._length
        written, known = self._written[:n], self._neighbours[:n]
        new = written.nonzero()[:, 0]
        # A distance to a row that is gone is still a lower bound for the others left.
        lost = ~written & ((known < 0) | written[known.clamp(min=0)])
        if n > 1:
            known.masked_fill_(lost, -1)
            nearer = torch.zeros_like(lost)
            for some in self._blocks(new):
                self._compare(some, written, nearer)
            lost &= ~nearer
            again = lost.nonzero()[:, 0]
        else:
            again = torch.arange(n, device=known.device)
        for some in self._blocks(again):
            self._set(some, *self._nearest(self._features[some], some))
        written.fill_(False)

    def _compare(self, new: Tensor, written: Tensor, nearer: Tensor) -> None:
        """Compare rows written with all: their nearest, and whose nearest they are."""
        n = self._length
        products = self._squared(self._features[new], self._squares[new])
        products[torch.arange(len(new), device=new.device), new] = torch.inf
        self._set(new, *self._exact(self._features[new], products))
        best, which = products.min(0)
        # Products may be off by this much, so such rows are looked at exactly.
        slack = 8e-6 if best.dtype is torch.float32 else 1e-14
        margin = slack * (self._squares[:n] + self._squares[new][which])
        bound = self._distances[:n].square()
        candidates = ((best - margin <= bound) & ~written).nonzero()[:, 0]
        which = new[which[candidates]]
        exact = (self._features[candidates] - self._features[which]).norm(dim=1)
        better = exact <= self._distances[candidates]
        candidates = candidates[better]
        self._set(candidates, exact[better], which[better])
        nearer[candidates] = True

    def _nearest(
        self, features: Tensor, own: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Distance and slot of the nearest stored row, other than each row's own."""
        products = self._squared(features, features.square().sum(1))
        if own is not None:
            products[torch.arange(len(own), device=own.device), own] = torch.inf
        return self._exact(features, products)

    def _squared(self, features: Tensor, squares: Tensor) -> Tensor:
        products = features @ self.features.T
        return (
            products.mul_(-2).add_(squares[:, None]).add_(self._squares[: self._length])
        )

    def _exact(self, features: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
        least, slots = products.min(1)
        distances = (features - self._features[slots]).norm(dim=1)
        alone = least == torch.inf
        return distances.masked_fill(alone, torch.inf), slots.masked_fill(alone, -1)

    def _set(self, slots: Tensor, distances: Tensor, neighbours: Tensor) -> None:
        self._distances[slots] = distances
        self._neighbours[slots] = neighbours

    def _blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows to be compared with all, in parts whose distances take bounded memory."""
        step = max(1, _BLOCK // max(1, self._length))
        return torch.split(rows, step) if len(rows) else ()
