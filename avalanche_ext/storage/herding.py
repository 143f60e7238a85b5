"""Admission by herding: rows whose mean is that of all rows of their class."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from avalanche_ext.storage.by_class import ByClass, largest_first
from avalanche_ext.storage.policy import Groups, Slots, Vectors

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
        values: Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> Slots:
        assert vectors is not None
        _check_finite(vectors.incoming)
        self._renew(vectors)
        arriving: dict[int, Tensor] = {}  # vectors of slots that are not written yet
        open_classes: dict[int, _Rows] = {}  # gathered once a batch
        slots: Slots = {}
        for position, (group, x) in enumerate(
            zip(groups, vectors.incoming.unbind(), strict=True)
        ):
            rank = self._ranks[group]
            self._seen[rank] += 1
            self._sums[rank] += x
            if stored < size:
                slot, stored = stored, stored + 1
                open_classes.pop(rank, None)
            else:
                loser = self._largest(rank)
                rows = open_classes.pop(loser, None)
                if rows is None:
                    rows = self._rows(self._compared(loser, draw), arriving, vectors)
                place = self._least(loser, rows, x if loser == rank else None)
                open_classes[loser] = rows
                if place is None:
                    continue
                slot = rows.slots[place]
                self._release(slot, rows.x[place])
                if loser == rank:
                    rows.put(place, x)
                else:
                    rows.drop(place)
                    open_classes.pop(rank, None)
            arriving[slot] = x
            self._slots[rank].append(slot)
            self._owner[slot] = rank
            self._held[rank] += x
            slots.pop(slot, None)  # of a row that came and left in this batch
            slots[slot] = position
        return slots

    def victims(
        self,
        n: int,
        stored: int,
        draw: Generator,
        values: Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> list[int]:
        assert vectors is not None
        self._renew(vectors)
        leaving: list[int] = []
        left = [self._rows(list(held), {}, vectors) for held in self._slots]
        for rank in largest_first(self._slots):
            if len(leaving) == n:
                break
            rows = left[rank]
            gap = self._gap(rank, self._held[rank], len(rows.slots) - 1)
            place = int(rows.scores(gap).argmin())
            self._held[rank] -= rows.x[place]  # `forget` does not know the rows
            leaving.append(rows.slots[place])
            rows.drop(place)
        return leaving

    def _largest(self, rank: int) -> int:
        sizes = [len(held) for held in self._slots]
        sizes[rank] += 1
        most = max(sizes)
        return rank if sizes[rank] == most else sizes.index(most)

    def _compared(self, rank: int, draw: Generator) -> list[int]:
        rows = self._slots[rank]
        if len(rows) <= _COMPARED:
            return list(rows)
        chosen = torch.randperm(len(rows), generator=draw)[:_COMPARED].tolist()
        return [rows[i] for i in chosen]

    def _least(self, rank: int, rows: "_Rows", own: Tensor | None) -> int | None:
        """The place of the row without which the mean fits best; ``None``: the one that
        arrives."""
        held, left = self._held[rank], len(self._slots[rank]) - 1
        if own is None:
            return int(rows.scores(self._gap(rank, held, left)).argmin())
        gap = self._gap(rank, held + own, left + 1)
        least, place = rows.scores(gap).min(0)
        fits = own.dot(own) - 2 * own.dot(gap) < least
        return None if fits else int(place)

    def _gap(self, rank: int, held: Tensor, left: int) -> Tensor:
        """``S − k μ``: what the rows of a class, whose sum is ``S``, are too much when
        ``k`` stay."""
        return (held - self._sums[rank] * (left / self._seen[rank])).float()

    def _rows(
        self, slots: list[int], arriving: Mapping[int, Tensor], vectors: Vectors
    ) -> "_Rows":
        """The rows at these slots, of which some are not written yet."""
        stored = [slot for slot in slots if slot not in arriving]
        if len(stored) == len(slots):
            x = vectors.of(slots)
        else:
            known = dict(arriving)
            if stored:
                known |= zip(stored, vectors.of(stored), strict=True)
            x = torch.stack([known[slot] for slot in slots])
        return _Rows(slots, x)

    def _release(self, slot: int, x: Tensor) -> None:
        rank = self._owner.pop(slot)
        self._slots[rank].remove(slot)
        self._held[rank] -= x

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


class _Rows:
    """Rows of a class of which one leaves.

    :param slots: where they are.
    :param x: their vectors, shape ``(k, d)``, a copy.
    """

    def __init__(self, slots: list[int], x: Tensor) -> None:
        self.slots, self.x = slots, x
        self._squares = x.square().sum(1)

    def scores(self, gap: Tensor) -> Tensor:
        """``‖S − x_j − k μ‖²`` of each row up to a constant, of ``gap = S − k μ``."""
        return torch.addmv(self._squares, self.x, gap, alpha=-2)

    def put(self, place: int, x: Tensor) -> None:
        """Another row at a place."""
        self.x[place] = x
        self._squares[place] = x.dot(x)

    def drop(self, place: int) -> None:
        """Leave a row out; the last one moves to its place."""
        last = len(self.slots) - 1
        self.slots[place], self.x[place] = self.slots[last], self.x[last]
        self._squares[place] = self._squares[last]
        self.slots.pop()
        self.x, self._squares = self.x[:last], self._squares[:last]


def _check_finite(incoming: Tensor) -> None:
    """A single row that is not would be in the sums of its class for good."""
    if incoming.isfinite().all():
        return
    rows = (~incoming.isfinite().all(1)).nonzero()[:, 0].tolist()
    raise ValueError(
        f"admission 'herding' compares rows, and {len(rows)} of the {len(incoming)} that "
        f"arrive are not finite (the first is row {rows[0]}): leave them out"
    )
