"""Admission by herding: rows whose mean is that of all rows of their class."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from avalanche_ext.storage.by_class import ByClass, largest_first
from avalanche_ext.storage.mean_matching import MeanMatching
from avalanche_ext.storage.policy import NOTHING, Compared, Groups, Slots, Vectors

_COMPARED = 128  # rows of a class of which one leaves: more are drawn from


class Herding(ByClass):
    """The rows of a class whose mean stays nearest to that of all its rows.

    Each class has an even share of the memory. When one must lose a row, it is
    ``argmin_j ‖ 1/(k−1) Σ_{i≠j} x_i − μ_c ‖₂`` over its ``k`` rows, the one that arrives
    among them: ``μ_c`` is the mean of all rows of the class offered so far. The class that
    loses one is the largest; of several, that of the row that arrives, else the first.

    Herding chooses rows one after the other from a whole data set such that their mean
    follows that of the data; this is the same aim where rows come once. What is kept
    represents its class: no outliers, as diversity keeps them, and no model is needed.

    ``x`` is the row as stored, flattened, so an outlier in many numbers counts more than one
    in few. Of classes with more than 128 rows, 128 drawn at random for each batch are compared,
    so the cost of a row does not grow with the memory.

    M. Welling, Herding dynamical weights to learn, ICML 2009; S.-A. Rebuffi, A. Kolesnikov,
    G. Sperl, C. H. Lampert, iCaRL: incremental classifier and representation learning,
    CVPR 2017. Theirs choose from all rows of a class at the end of its experience, by
    features of the network.
    """

    name = "herding"
    needs_vectors = True

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[int] = []  # rows offered, by rank
        self._sums: list[Tensor] = []  # of all rows offered, float64
        self._held: list[Tensor] = []  # sums of the rows stored
        self._form = 0  # of the vectors summed

    def surplus(self, groups: Groups, size: int) -> list[int]:
        super().surplus(groups, size)
        self._seen += [0] * (len(self._slots) - len(self._seen))
        return []

    def admit(
        self,
        groups: Groups,
        stored: int,
        size: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> Slots:
        assert compared.vectors is not None
        self._renew(compared.vectors)
        batch = _Batch([self._ranks[group] for group in groups], compared.vectors)
        for position, rank in enumerate(batch.ranks):
            if stored < size:
                slot, stored = stored, stored + 1
                self._offered(batch, position)
            else:
                loser = self._largest(rank)
                if loser not in batch.open:
                    self._open(batch, loser, position, draw)
                self._offered(batch, position)
                rows = batch.open[loser]
                place = rows.lose(position if loser == rank else None)
                if place is None:
                    continue
                slot = rows.slots[place]
                self._owner.pop(slot)
                self._slots[loser].remove(slot)
                self._held[loser] -= rows.matching.row(place)
                if loser == rank:
                    rows.slots[rows.place_of(position)] = slot
                else:
                    batch.open.pop(rank, None)  # it gains a row
            self._slots[rank].append(slot)
            self._owner[slot] = rank
            self._held[rank] += batch.vectors.incoming[position]
            batch.taken.pop(slot, None)  # of a row that came and left in this batch
            batch.taken[slot] = position
        for rank in set(batch.ranks):
            self._count(batch, rank)
        return batch.taken

    def victims(
        self,
        n: int,
        stored: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> list[int]:
        assert compared.vectors is not None
        self._renew(compared.vectors)
        batch = _Batch([], compared.vectors)
        leaving: list[int] = []
        for rank, _ in zip(largest_first(self._slots), range(n), strict=False):
            if rank not in batch.open:
                batch.open[rank] = self._rows(batch, rank, list(self._slots[rank]), 0)
            rows = batch.open[rank]
            place = rows.matching.leave()
            self._held[rank] -= rows.matching.row(place)  # `forget` knows no rows
            leaving.append(rows.slots[place])
        return leaving

    def _largest(self, rank: int) -> int:
        sizes = [len(held) for held in self._slots]
        sizes[rank] += 1
        most = max(sizes)
        return rank if sizes[rank] == most else sizes.index(most)

    def _open(self, batch: "_Batch", rank: int, position: int, draw: Generator) -> None:
        """Compare rows of a class, from a row of the batch on."""
        self._count(batch, rank)
        slots = list(self._slots[rank])
        if len(slots) > _COMPARED:
            chosen = torch.randperm(len(slots), generator=draw)[:_COMPARED].tolist()
            slots = [slots[i] for i in chosen]
        batch.open[rank] = self._rows(batch, rank, slots, position)

    def _rows(
        self, batch: "_Batch", rank: int, slots: list[int], position: int
    ) -> "_Rows":
        coming = [
            p for p in range(position, len(batch.ranks)) if batch.ranks[p] == rank
        ]
        matching = MeanMatching(
            batch.rows(slots),
            batch.vectors.incoming[coming],
            self._held[rank],
            len(self._slots[rank]),
            self._sums[rank],
            self._seen[rank],
        )
        return _Rows(matching, slots, coming)

    def _offered(self, batch: "_Batch", position: int) -> None:
        rank = batch.ranks[position]
        self._seen[rank] += 1
        batch.uncounted.setdefault(rank, []).append(position)
        if rank in batch.open:
            batch.open[rank].offered(position)

    def _count(self, batch: "_Batch", rank: int) -> None:
        """Add the rows of a class that were offered to its sum."""
        positions = batch.uncounted.pop(rank, [])
        if positions:
            rows = batch.vectors.incoming[positions]
            self._sums[rank] += rows.sum(0, dtype=torch.float64)

    def _renew(self, vectors: Vectors) -> None:
        """Sums of classes that are new, or of rows that have another form now.

        All rows of a class offered so far are then taken for as many as there were of the
        mean of those stored.
        """
        known = len(self._sums) if vectors.form == self._form else 0
        del self._sums[known:], self._held[known:]
        self._form = vectors.form
        for rank in range(known, len(self._slots)):
            slots = list(self._slots[rank])
            held = vectors.incoming.new_zeros(vectors.incoming.shape[1]).double()
            if slots:
                held = vectors.of(slots).double().sum(0)
            self._held.append(held.clone())
            self._sums.append(held * (self._seen[rank] / max(1, len(slots))))

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "seen": self._by_group(self._seen),
            "sums": [total.clone() for total in self._sums],
            "held": [total.clone() for total in self._held],
            "form": self._form,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen = [state["seen"][group] for group in self._ranks]
        self._sums = [total.clone() for total in state["sums"]]
        self._held = [total.clone() for total in state["held"]]
        self._form = state["form"]


class _Batch:
    """What an admission knows while rows of a batch arrive.

    :param ranks: of the class of each row.
    """

    def __init__(self, ranks: Sequence[int], vectors: Vectors) -> None:
        self.ranks, self.vectors = ranks, vectors
        self.taken: Slots = {}  # not written yet
        self.open: dict[int, _Rows] = {}  # by rank; gathered once a batch
        self.uncounted: dict[int, list[int]] = {}  # positions, by rank

    def rows(self, slots: list[int]) -> Tensor:
        """The rows at these slots, of which some are not written yet."""
        stored = [place for place, slot in enumerate(slots) if slot not in self.taken]
        x = self.vectors.of([slots[place] for place in stored]) if stored else None
        if x is not None and len(stored) == len(slots):
            return x
        new = [place for place, slot in enumerate(slots) if slot in self.taken]
        rows = self.vectors.incoming.new_empty(
            len(slots), self.vectors.incoming.shape[1]
        )
        rows[new] = self.vectors.incoming[[self.taken[slots[place]] for place in new]]
        if x is not None:
            rows[stored] = x
        return rows


class _Rows:
    """Rows of a class of which one leaves.

    :param slots: where they are.
    :param coming: positions in the batch of those that will arrive.
    """

    def __init__(
        self, matching: MeanMatching, slots: list[int], coming: list[int]
    ) -> None:
        self.matching = matching
        self.slots = dict(enumerate(slots))  # by place
        self._number = {position: number for number, position in enumerate(coming)}

    def place_of(self, position: int) -> int:
        """Where a row that arrives is among those compared."""
        return self.matching.stored + self._number[position]

    def offered(self, position: int) -> None:
        """A row of this class was offered."""
        self.matching.arrive(self._number[position])

    def lose(self, position: int | None) -> int | None:
        """The place of the row that leaves; ``None``: the one that arrives.

        :param position: of the row that arrives, where it is of this class.
        """
        if position is not None:
            self.matching.join(self._number[position])
        place = self.matching.leave()
        own = position is not None and place == self.place_of(position)
        return None if own else place
