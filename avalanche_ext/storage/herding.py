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
    in few. Of classes with more than 128 rows, 128 drawn at random are compared, so the
    cost of a row does not grow with the memory.

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
        self._renew(vectors)
        arriving: dict[int, Tensor] = {}  # vectors of slots that are not written yet
        slots: Slots = {}
        for position, group in enumerate(groups):
            rank, x = self._ranks[group], vectors.incoming[position].double()
            self._seen[rank] += 1
            self._sums[rank] += x
            if stored < size:
                slot, stored = stored, stored + 1
            else:
                loser = self._largest(rank)
                rows = self._compared(loser, draw)
                own = x if loser == rank else None
                place = self._least(loser, rows, own, arriving, vectors)
                if place == len(rows):
                    continue
                slot = rows[place]
                self._release(slot, self._vector(slot, arriving, vectors))
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
        left = [list(held) for held in self._slots]
        sums = [held.clone() for held in self._held]
        for rank in largest_first(self._slots):
            if len(leaving) == n:
                break
            rows = left[rank]
            x = self._rows(rows, {}, vectors)
            least = self._scores(rank, x, sums[rank], len(rows) - 1).argmin()
            slot = rows.pop(int(least))
            sums[rank] -= self._vector(slot, {}, vectors)
            leaving.append(slot)
        # They are forgotten by `forget`, which does not know the rows.
        self._held = sums
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

    def _least(
        self,
        rank: int,
        rows: list[int],
        own: Tensor | None,
        arriving: Mapping[int, Tensor],
        vectors: Vectors,
    ) -> int:
        """The place of the row without which the mean fits best, ``len(rows)`` for the
        one that arrives."""
        x, held = self._rows(rows, arriving, vectors), self._held[rank]
        left = len(self._slots[rank]) - 1
        if own is not None:
            x, held, left = torch.cat((x, own[None])), held + own, left + 1
        return int(self._scores(rank, x, held, left).argmin())

    def _scores(self, rank: int, x: Tensor, held: Tensor, left: int) -> Tensor:
        """``‖S − x_j − k μ‖²`` up to a constant, of each row ``x_j``.

        :param held: ``S``, the sum of all rows of the class.
        :param left: ``k``, how many stay.
        """
        gap = held - self._sums[rank] * (left / self._seen[rank])
        scores: Tensor = x.square().sum(1) - 2 * (x @ gap)
        return scores

    def _rows(
        self, slots: list[int], arriving: Mapping[int, Tensor], vectors: Vectors
    ) -> Tensor:
        """The vectors at these slots, of which some are not written yet."""
        stored = [slot for slot in slots if slot not in arriving]
        if len(stored) == len(slots):
            return vectors.of(slots).double()
        known = dict(arriving)
        if stored:
            known |= zip(stored, vectors.of(stored).double(), strict=True)
        return torch.stack([known[slot] for slot in slots])

    def _vector(
        self, slot: int, arriving: Mapping[int, Tensor], vectors: Vectors
    ) -> Tensor:
        if slot in arriving:
            return arriving[slot]
        return vectors.of([slot])[0].double()

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
