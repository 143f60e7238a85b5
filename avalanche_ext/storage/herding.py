"""Admission by herding: rows whose mean is that of all rows of their class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator

from avalanche_ext.storage.by_class import ByClass, largest_first
from avalanche_ext.storage.mean_matching import Array, MeanMatching
from avalanche_ext.storage.policy import NOTHING, Compared, Groups, Slots, Vectors

_ORDERED = 1024  # rows of a class up to which a random order of all is cheap
_COMPARED = 32  # rows of a class of which one leaves: more are drawn from


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
    in few. Of classes with more than 32 rows, 32 drawn at random for each batch are compared,
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
        self._sums = np.zeros((0, 0))  # of all rows offered, by rank
        self._held = np.zeros((0, 0))  # of the rows stored
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
        batch = _Batch([self._ranks[group] for group in groups], compared.vectors)
        _check_finite(batch.x)
        self._renew(compared.vectors)
        for position, rank in enumerate(batch.ranks):
            if stored < size:
                slot, stored = stored, stored + 1
                self._offered(batch, position)
            else:
                loser = self._largest(rank)
                rows = batch.open.get(loser)
                if rows is None or (loser != rank and not rows.matching.present):
                    rows = self._open(batch, loser, position, draw)
                self._offered(batch, position)
                place = rows.lose(position if loser == rank else None)
                if place is None:
                    continue
                slot = rows.slots[place]
                self._held[loser] -= rows.matching.row(place)
                if loser == rank:
                    rows.slots[rows.place_of(position)] = slot
                else:
                    self._slots[loser].remove(slot)
                    batch.open.pop(rank, None)  # it gains a row
            if self._owner.get(slot) != rank:
                self._slots[rank].append(slot)
                self._owner[slot] = rank
            self._held[rank] += batch.x[position]
            batch.taken[slot] = position
        self._count(batch, len(batch.ranks))
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
                self._compare(batch, {rank: list(self._slots[rank])}, 0)
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

    def _open(
        self, batch: "_Batch", rank: int, position: int, draw: Generator
    ) -> "_Rows":
        """Compare rows of a class, from a row of the batch on.

        When first asked for, classes of all rows to come are: most of them will be.
        """
        ranks = [rank]
        if not batch.open:
            coming = dict.fromkeys(batch.ranks[position:])
            ranks += [other for other in coming if other != rank and self._slots[other]]
        compared = {rank: self._some_of(rank, draw) for rank in ranks}
        self._compare(batch, compared, position)
        return batch.open[rank]

    def _some_of(self, rank: int, draw: Generator) -> list[int]:
        held = self._slots[rank]
        if len(held) <= _COMPARED:
            return list(held)
        if len(held) <= _ORDERED:
            chosen = torch.randperm(len(held), generator=draw)[:_COMPARED].tolist()
        else:  # equal numbers are rare, and then one row fewer is compared
            numbers = torch.randint(len(held), (_COMPARED,), generator=draw).tolist()
            chosen = list(dict.fromkeys(numbers))
        return [held[i] for i in chosen]

    def _compare(
        self, batch: "_Batch", compared: dict[int, list[int]], position: int
    ) -> None:
        coming: dict[int, list[int]] = {rank: [] for rank in compared}
        for later in range(position, len(batch.ranks)):
            if batch.ranks[later] in coming:
                coming[batch.ranks[later]].append(later)
        x = batch.rows([slot for slots in compared.values() for slot in slots])
        others = self._others(batch, coming, position)
        first, second = 0, 0
        for rank, slots in compared.items():
            after, then = first + len(slots), second + len(coming[rank]) + 3
            matching = MeanMatching(
                x[first:after],
                others[second:then],
                len(self._slots[rank]),
                self._seen[rank],
            )
            batch.open[rank] = _Rows(matching, slots, coming[rank])
            first, second = after, then

    def _others(
        self, batch: "_Batch", coming: dict[int, list[int]], position: int
    ) -> Array:
        """Of each class: the mean ``c`` of its rows so far, its rows to come, and by what
        the sums of the rows stored and of those offered exceed as many times ``c``."""
        self._count(batch, position)
        ranks = list(coming)
        seen = np.array([[self._seen[rank]] for rank in ranks])
        held = np.array([[len(self._slots[rank])] for rank in ranks])
        # Rounded as it is subtracted from rows, so that the sums lose nothing by it.
        centres = (self._sums[ranks] / np.maximum(seen, 1)).astype(np.float32)
        exact = centres.astype(np.float64)
        stored = self._held[ranks] - held * exact
        offered = self._sums[ranks] - seen * exact
        n, classes = len(batch.x), len(ranks)
        order: list[int] = []
        for number, positions in enumerate(coming.values(), n):
            order += [number, *positions, number + classes, number + 2 * classes]
        rows: Array = np.concatenate(
            (batch.x, centres, stored, offered), dtype=np.float32
        )
        return rows[order]

    def _offered(self, batch: "_Batch", position: int) -> None:
        rank = batch.ranks[position]
        self._seen[rank] += 1
        if rank in batch.open:
            batch.open[rank].offered(position)

    def _count(self, batch: "_Batch", position: int) -> None:
        """Add the rows before a position to the sums of their classes."""
        for earlier in range(batch.counted, position):
            self._sums[batch.ranks[earlier]] += batch.x[earlier]
        batch.counted = position

    def _renew(self, vectors: Vectors) -> None:
        """Sums of classes that are new, or of rows that have another form now.

        All rows of a class offered so far are then taken for as many as there were of the
        mean of those stored.
        """
        known = len(self._sums) if vectors.form == self._form else 0
        self._form = vectors.form
        new = len(self._slots) - known
        if not new:
            return
        zeros = np.zeros((new, vectors.incoming.shape[1]))
        self._sums = np.concatenate((self._sums[:known], zeros)) if known else zeros
        self._held = np.concatenate((self._held[:known], zeros)) if known else 1 * zeros
        for rank in range(known, len(self._slots)):
            slots = list(self._slots[rank])
            if slots:
                self._held[rank] = vectors.of(slots).double().sum(0).cpu()
                self._sums[rank] = self._held[rank] * (self._seen[rank] / len(slots))

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "seen": self._by_group(self._seen),
            "sums": torch.from_numpy(self._sums.copy()),
            "held": torch.from_numpy(self._held.copy()),
            "form": self._form,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen = [state["seen"][group] for group in self._ranks]
        self._sums, self._held = (
            state["sums"].numpy().copy(),
            state["held"].numpy().copy(),
        )
        self._form = state["form"]


class _Batch:
    """What an admission knows while rows of a batch arrive.

    :param ranks: of the class of each row.
    """

    def __init__(self, ranks: Sequence[int], vectors: Vectors) -> None:
        self.ranks, self.vectors = ranks, vectors
        self.x: Array = vectors.incoming.cpu().numpy()
        self.taken: Slots = {}  # not written yet
        self.open: dict[int, _Rows] = {}  # by rank; gathered once a batch
        self.counted = 0  # rows that are in the sums

    def rows(self, slots: list[int]) -> Array:
        """The rows at these slots, of which some are not written yet."""
        if self.taken.keys().isdisjoint(slots):
            rows: Array = self.vectors.of(slots).cpu().numpy()
            return rows
        rows = np.empty((len(slots), self.x.shape[1]), dtype=np.float32)
        stored = [place for place, slot in enumerate(slots) if slot not in self.taken]
        if stored:
            found = self.vectors.of([slots[place] for place in stored])
            rows[stored] = found.cpu().numpy()
        new = [place for place, slot in enumerate(slots) if slot in self.taken]
        rows[new] = self.x[[self.taken[slots[place]] for place in new]]
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


def _check_finite(incoming: Array) -> None:
    """A single row that is not would be in the sums of its class for good."""
    finite = np.isfinite(incoming)
    if finite.all():
        return
    rows = (~finite.all(1)).nonzero()[0].tolist()
    raise ValueError(
        f"admission 'herding' compares rows, and {len(rows)} of the {len(incoming)} that "
        f"arrive are not finite (the first is row {rows[0]}): leave them out"
    )
