"""Admissions that keep the classes apart: a queue for each, and class balance.

A class has a rank, its place in the order in which classes were met. Admitting a row
costs the same whatever the number of classes.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heapreplace
from itertools import islice
from typing import Any

import torch
from torch import Generator

from avalanche_ext.arguments import whole_number
from avalanche_ext.storage.policy import NOTHING, Admission, Compared, Groups, Slots


class ByClass(Admission):
    """An admission that keeps the slots of each class, in the order in which they were filled."""

    def __init__(self) -> None:
        self._ranks: dict[Hashable, int] = {}
        self._slots: list[Any] = []  # by rank; made by `_in_order`
        self._owner: dict[int, int] = {}  # slot → rank of the class that holds it

    def surplus(self, groups: Groups, size: int) -> list[int]:
        new = dict.fromkeys(group for group in groups if group not in self._ranks)
        classes = len(self._ranks) + len(new)
        if classes > size:
            raise ValueError(
                f"a memory of {size} rows cannot balance {classes} classes: give it "
                f"at least {classes} rows"
            )
        for group in new:
            self._ranks[group] = len(self._slots)
            self._slots.append(self._in_order())
        return []

    def classes_with(self, groups: Groups) -> int:
        return len(self._ranks) + len({g for g in groups if g not in self._ranks})

    def forget(self, slots: Iterable[int], moves: Mapping[int, int]) -> None:
        gone = {slot: self._owner.pop(slot) for slot in slots}
        moved = {new: self._owner.pop(old) for old, new in moves.items()}
        self._owner.update(moved)
        for rank in {*gone.values(), *moved.values()}:
            held = self._slots[rank]
            self._slots[rank] = self._in_order(
                moves.get(s, s) for s in held if s not in gone
            )

    def state_dict(self) -> dict[str, Any]:
        return {"slots": self._by_group([list(held) for held in self._slots])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._ranks = {group: rank for rank, group in enumerate(state["slots"])}
        self._slots = [self._in_order(held) for held in state["slots"].values()]
        self._owner = {s: rank for rank, held in enumerate(self._slots) for s in held}

    def _in_order(self, slots: Iterable[int] = ()) -> Any:
        """The slots of a class in order: a queue, unless a policy does other things."""
        return deque(slots)

    def _by_group(self, values: list[Any]) -> dict[Hashable, Any]:
        return dict(zip(self._ranks, values, strict=True))


class Ring(ByClass):
    """The most recent rows of each class (ER-Ring).

    Each class keeps its last ``q`` rows: ``q = per_class``, or an equal share of the
    size among the classes met so far, ``⌈(size − r) / classes⌉`` for the ``r``-th
    class (``r = 0, 1, …``). When a class is new, the oldest rows of the others go.

    A. Chaudhry et al., On tiny episodic memories in continual learning, 2019.

    :param per_class: rows a class; ``None`` for equal shares.
    """

    name = "ring"

    def __init__(self, per_class: int | None = None) -> None:
        super().__init__()
        if per_class is not None:
            per_class = whole_number("per_class", per_class, "rows", least=1)
        self.per_class = per_class
        self._shares = (-1, 0)  # (rows a class, classes with one more) so far

    def _quota(self, rank: int) -> int:
        share, more = self._shares
        quota = share + (rank < more)
        return quota if self.per_class is None else min(self.per_class, quota)

    def surplus(self, groups: Groups, size: int) -> list[int]:
        super().surplus(groups, size)
        share, more = self._shares
        self._shares = divmod(size, max(1, len(self._slots)))
        # Of an unchanged share only classes that lost their one more have a surplus.
        same = share == self._shares[0]
        ranks = range(self._shares[1], more) if same else range(len(self._slots))
        return [
            slot
            for rank in ranks
            for slot in islice(self._slots[rank], self._excess(rank))
        ]

    def _excess(self, rank: int) -> int:
        return max(0, len(self._slots[rank]) - self._quota(rank))

    def admit(
        self,
        groups: Groups,
        stored: int,
        size: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> Slots:
        slots: Slots = {}
        for position, group in enumerate(groups):
            rank = self._ranks[group]
            held = self._slots[rank]
            if len(held) < self._quota(rank):
                slot, stored = stored, stored + 1
                self._owner[slot] = rank
            else:
                slot = held.popleft()
            held.append(slot)
            slots[slot] = position
        return slots

    def victims(
        self,
        n: int,
        stored: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> list[int]:
        # Of equally large classes the one met last: the first hold the remainder.
        held = self._slots[::-1]
        oldest = [iter(slots) for slots in held]
        return [next(oldest[i]) for i in islice(largest_first(held), n)]


class ClassBalanced(ByClass):
    """Class-balancing reservoir sampling.

    While there is room every row is kept. Then a row of a class that never was the
    largest replaces a random row of a largest class; a row of a class that is or was
    the largest is kept with probability ``m_c / n_c`` (``m_c`` rows stored, ``n_c``
    seen, itself included) in place of a random row of its class. The rows of a class
    are a uniform sample of those seen. What counts as largest counts from when the
    memory is full.

    A. Chrysakis and M.-F. Moens, Online continual learning from imbalanced data,
    ICML 2020, Algorithm 1.
    """

    name = "class_balanced"

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[int] = []  # by rank
        self._full: set[int] = set()  # ranks that are or were the largest
        self._noted = 0  # rows of the largest classes when `_full` was last told
        self._sizes = _Sizes([])

    def surplus(self, groups: Groups, size: int) -> list[int]:
        super().surplus(groups, size)
        for _ in range(len(self._seen), len(self._slots)):
            self._seen.append(0)
            self._sizes.append(0)
        return []

    def admit(
        self,
        groups: Groups,
        stored: int,
        size: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> Slots:
        chances = torch.rand(len(groups), 3, generator=draw, dtype=torch.float64)
        slots: Slots = {}
        for position, (group, (a, b, c)) in enumerate(
            zip(groups, chances.tolist(), strict=True)
        ):
            rank = self._ranks[group]
            held = self._slots[rank]
            self._seen[rank] += 1
            if stored < size:
                slot, stored = stored, stored + 1
                self._give(slot, rank)
                self._noted = 0
            else:
                self._note_largest()
                if rank not in self._full:
                    slot = self._take(self._sizes.largest(a), b)
                    self._give(slot, rank)
                elif a * self._seen[rank] < len(held):
                    slot = held[int(c * len(held))]
                else:
                    continue
            slots[slot] = position
        if stored == size:
            self._note_largest()
        return slots

    def _note_largest(self) -> None:
        if self._noted != self._sizes.most:
            self._noted = self._sizes.most
            self._full.update(self._sizes.ranks[self._noted])

    def _give(self, slot: int, rank: int) -> None:
        held = self._slots[rank]
        self._sizes.move(rank, len(held), len(held) + 1)
        held.append(slot)
        self._owner[slot] = rank
        if len(held) == self._noted:
            self._full.add(rank)

    def _take(self, rank: int, chance: float) -> int:
        held = self._slots[rank]
        self._sizes.move(rank, len(held), len(held) - 1)
        place = int(chance * len(held))
        slot: int = held[place]
        held[place] = held[-1]
        held.pop()
        return slot

    def victims(
        self,
        n: int,
        stored: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> list[int]:
        left = [list(held) for held in self._slots]
        chances = torch.rand(n, generator=draw, dtype=torch.float64).tolist()
        return [
            left[rank].pop(int(chance * len(left[rank])))
            for rank, chance in zip(largest_first(left), chances, strict=False)
        ]

    def forget(self, slots: Iterable[int], moves: Mapping[int, int]) -> None:
        super().forget(slots, moves)
        self._noted, self._sizes = 0, _Sizes([len(held) for held in self._slots])

    def state_dict(self) -> dict[str, Any]:
        groups = list(self._ranks)
        return {
            **super().state_dict(),
            "seen": self._by_group(self._seen),
            "full": [groups[rank] for rank in sorted(self._full)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen = [state["seen"].get(group, 0) for group in self._ranks]
        self._full = {self._ranks[group] for group in state["full"]}
        self._noted, self._sizes = 0, _Sizes([len(held) for held in self._slots])


class _Sizes:
    """Which classes have how many rows: their ranks, in order, by number of rows."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.ranks: dict[int, list[int]] = {0: []}
        self.most = max(sizes, default=0)
        self._classes = 0
        for size in sizes:
            self.append(size)

    def append(self, size: int) -> None:
        """A further class, which has ``size`` rows."""
        self.ranks.setdefault(size, []).append(self._classes)
        self._classes += 1

    def largest(self, chance: float) -> int:
        """One of the classes with most rows, by a number in ``[0, 1)``."""
        ranks = self.ranks[self.most]
        return ranks[int(chance * len(ranks))]

    def move(self, rank: int, old: int, new: int) -> None:
        """A class that had ``old`` rows has one more or one less, ``new``."""
        ranks = self.ranks[old]
        del ranks[bisect_left(ranks, rank)]
        insort(self.ranks.setdefault(new, []), rank)
        if new > self.most or (old == self.most and not ranks):
            self.most = new
        if not ranks:
            del self.ranks[old]


def largest_first(held: Iterable[Any]) -> Iterator[int]:
    """Places of the largest of ``held``, each time one that loses a row by it.

    Of equally large ones the first.
    """
    heap = [(-len(rows), place) for place, rows in enumerate(held)]
    heapify(heap)
    while True:
        size, place = heap[0]
        yield place
        heapreplace(heap, (size + 1, place))
