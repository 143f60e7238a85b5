"""Which slots an incoming batch takes: reservoir, ring and class balance.

A policy is told the groups (classes) of the incoming rows, how many rows are stored
and the capacity, and answers with slots; it never sees rows. What it keeps besides,
the slots of each group, is an index of the table's rows that is told of every move.
"""

import itertools
import math
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

Slots = dict[int, int]
"""Slot → position in the incoming batch of the row that takes it."""


class Admission(ABC):
    """What to keep. One instance serves one memory."""

    needs_groups = True
    """Whether the groups of incoming rows are looked at (a copy to the host)."""

    @abstractmethod
    def admit(
        self,
        groups: Sequence[Hashable],
        stored: int,
        capacity: int,
        generator: torch.Generator,
    ) -> Slots:
        """Slots for a batch whose rows arrive one after the other.

        :param groups: the group of each incoming row.
        :param stored: rows held; they occupy the slots ``0 … stored − 1``.
        """

    @abstractmethod
    def victims(self, n: int, stored: int, generator: torch.Generator) -> list[int]:
        """The ``n`` slots to empty when the memory must shrink."""

    def surplus(self, groups: Sequence[Hashable], capacity: int) -> list[int]:
        """Slots to empty before a batch of ``groups`` is admitted to ``capacity`` rows.

        :raises ValueError: when the capacity cannot serve the groups; nothing changed.
        """
        return []

    def classes_with(self, groups: Sequence[Hashable]) -> int:
        """Number of groups known, those of a batch included."""
        return len(set(groups))

    def forget(self, slots: Iterable[int], moves: Mapping[int, int]) -> None:
        """Rows left ``slots``, and then others moved (old slot → new slot)."""
        return None

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What the policy has counted, as plain values and tensors."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict``."""


class Reservoir(Admission):
    """Algorithm R: each of ``N`` rows offered is kept with probability ``min(1, k/N)``.

    Row number ``n`` takes slot ``n − 1`` while ``n ≤ k``; afterwards it draws ``j``
    uniformly from ``0 … n − 1`` and takes slot ``j`` if ``j < k``. The decisions do
    not depend on the rows, so they are drawn for many rows ahead and cost nothing
    when no row of a batch is admitted.

    A slot emptied by an eviction, or added by a resize, is filled by the draw that
    hits it, so newcomers are never kept more often than ``k/N``.

    J. S. Vitter, Random sampling with a reservoir, ACM TOMS 11(1), 1985.
    """

    needs_groups = False
    _AHEAD = 4096

    def __init__(self) -> None:
        self.seen = 0
        self._capacity = 0
        self._decided = 0  # rows up to this number have a decision
        self._accepted: deque[tuple[int, int]] = deque()  # (row number, slot)

    def admit(
        self,
        groups: Sequence[Hashable],
        stored: int,
        capacity: int,
        generator: torch.Generator,
    ) -> Slots:
        if capacity != self._capacity:
            self._capacity, self._decided = capacity, self.seen
            self._accepted.clear()
        first, last = self.seen + 1, self.seen + len(groups)
        while self._decided < last:
            self._decide(generator)
        slots: Slots = {}
        while self._accepted and self._accepted[0][0] <= last:
            number, slot = self._accepted.popleft()
            if slot >= stored:  # empty: rows stay dense
                slot, stored = stored, stored + 1
            slots[slot] = number - first
        self.seen = last
        return slots

    def _decide(self, generator: torch.Generator) -> None:
        number = torch.arange(self._decided + 1, self._decided + self._AHEAD + 1)
        chance = torch.rand(self._AHEAD, generator=generator, dtype=torch.float64)
        slot = torch.where(
            number <= self._capacity, number - 1, (chance * number).long()
        )
        kept = slot < self._capacity
        self._accepted.extend(
            zip(number[kept].tolist(), slot[kept].tolist(), strict=True)
        )
        self._decided += self._AHEAD

    def victims(self, n: int, stored: int, generator: torch.Generator) -> list[int]:
        return torch.randperm(stored, generator=generator)[:n].tolist()

    def state_dict(self) -> dict[str, Any]:
        return {
            "seen": self.seen,
            "capacity": self._capacity,
            "decided": self._decided,
            "accepted": torch.tensor(list(self._accepted)).reshape(-1, 2),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]
        self._capacity = state["capacity"]
        self._decided = state["decided"]
        self._accepted = deque((n, s) for n, s in state["accepted"].tolist())


class _Grouped(Admission):
    """Keeps the slots of each group, in the order in which they were filled."""

    def __init__(self) -> None:
        self._slots: dict[Hashable, deque[int]] = {}

    def surplus(self, groups: Sequence[Hashable], capacity: int) -> list[int]:
        new = dict.fromkeys(group for group in groups if group not in self._slots)
        classes = len(self._slots) + len(new)
        if classes > capacity:
            raise ValueError(
                f"a memory of {capacity} rows cannot balance {classes} classes: give it "
                f"at least {classes} rows"
            )
        for group in new:
            self._slots[group] = deque()
        return []

    def classes_with(self, groups: Sequence[Hashable]) -> int:
        return len(self._slots.keys() | set(groups))

    def _largest(self) -> list[Hashable]:
        most = max(len(slots) for slots in self._slots.values())
        return [group for group, slots in self._slots.items() if len(slots) == most]

    def forget(self, slots: Iterable[int], moves: Mapping[int, int]) -> None:
        gone = set(slots)
        self._slots = {
            group: deque(moves.get(s, s) for s in held if s not in gone)
            for group, held in self._slots.items()
        }

    def state_dict(self) -> dict[str, Any]:
        return {"slots": {group: list(held) for group, held in self._slots.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._slots = {group: deque(held) for group, held in state["slots"].items()}


class Ring(_Grouped):
    """The most recent rows of each class (ER-Ring).

    Each class keeps its last ``q`` rows: ``q = per_class``, or an equal share of the
    capacity among the classes met so far, ``⌈(capacity − r) / classes⌉`` for the
    ``r``-th class (``r = 0, 1, …``). When a class is new, the oldest rows of the
    others go.

    A. Chaudhry et al., On tiny episodic memories in continual learning, 2019.

    :param per_class: rows a class; ``None`` for equal shares.
    """

    def __init__(self, per_class: int | None = None) -> None:
        super().__init__()
        if per_class is not None and per_class < 1:
            raise ValueError(f"per_class must be at least 1 row, got {per_class}")
        self.per_class = per_class
        self._capacity = 0

    def _quotas(self, capacity: int) -> dict[Hashable, int]:
        classes = len(self._slots)
        most = capacity if self.per_class is None else self.per_class
        return {
            group: min(most, math.ceil((capacity - rank) / classes))
            for rank, group in enumerate(self._slots)
        }

    def surplus(self, groups: Sequence[Hashable], capacity: int) -> list[int]:
        before = len(self._slots), self._capacity
        super().surplus(groups, capacity)
        self._capacity = capacity
        if before == (len(self._slots), capacity):
            return []
        quotas = self._quotas(capacity)
        return [
            slot
            for group, held in self._slots.items()
            for slot in itertools.islice(held, max(0, len(held) - quotas[group]))
        ]

    def admit(
        self,
        groups: Sequence[Hashable],
        stored: int,
        capacity: int,
        generator: torch.Generator,
    ) -> Slots:
        quotas = self._quotas(capacity)
        slots: Slots = {}
        for position, group in enumerate(groups):
            held = self._slots[group]
            if len(held) < quotas[group]:
                slot, stored = stored, stored + 1
            else:
                slot = held.popleft()
            held.append(slot)
            slots[slot] = position
        return slots

    def victims(self, n: int, stored: int, generator: torch.Generator) -> list[int]:
        # Of equally large classes the one met last: the first hold the remainder.
        left = [deque(held) for held in reversed(self._slots.values())]
        return [max(left, key=len).popleft() for _ in range(n)]


class ClassBalanced(_Grouped):
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

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[Hashable, int] = {}
        self._full: set[Hashable] = set()

    def admit(
        self,
        groups: Sequence[Hashable],
        stored: int,
        capacity: int,
        generator: torch.Generator,
    ) -> Slots:
        draws = torch.rand(len(groups), 3, generator=generator, dtype=torch.float64)
        slots: Slots = {}
        for position, (group, chances) in enumerate(
            zip(groups, draws.tolist(), strict=True)
        ):
            held = self._slots[group]
            seen = self._seen[group] = self._seen.get(group, 0) + 1
            if stored < capacity:
                slot, stored = stored, stored + 1
                held.append(slot)
                slots[slot] = position
                continue
            largest = self._largest()
            self._full.update(largest)
            if group not in self._full:
                victims = self._slots[largest[int(chances[0] * len(largest))]]
                place = int(chances[1] * len(victims))
                slot, victims[place] = victims[place], victims[-1]
                victims.pop()
                held.append(slot)
                slots[slot] = position
            elif chances[0] * seen < len(held):
                slots[held[int(chances[2] * len(held))]] = position
        return slots

    def victims(self, n: int, stored: int, generator: torch.Generator) -> list[int]:
        left = {group: list(held) for group, held in self._slots.items()}
        chosen = []
        for chance in torch.rand(n, generator=generator, dtype=torch.float64).tolist():
            held = max(left.values(), key=len)
            chosen.append(held.pop(int(chance * len(held))))
        return chosen

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "seen": dict(self._seen),
            "full": [group for group in self._slots if group in self._full],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen = dict(state["seen"])
        self._full = set(state["full"])


ADMISSIONS = ("reservoir", "ring", "class_balanced")


def make_admission(name: str, per_class: int | None = None) -> Admission:
    """The policy of that name.

    :raises ValueError: for an unknown name, or ``per_class`` where it has no meaning.
    """
    if name not in ADMISSIONS:
        raise ValueError(f"unknown admission {name!r}: choose one of {ADMISSIONS}")
    if name == "ring":
        return Ring(per_class)
    if per_class is not None:
        raise ValueError(
            f"per_class={per_class} belongs to admission 'ring', got {name!r}: "
            "leave it out"
        )
    return Reservoir() if name == "reservoir" else ClassBalanced()


def fast_reservoir_sampling(
    stream: Iterable[T], k: int, *, seed: int | None = None
) -> list[T]:
    """``k`` elements of any iterable, each subset of ``k`` equally likely.

    Algorithm L: it draws how many elements to pass over instead of a number for
    each, so a stream of ``N`` costs ``O(k (1 + log(N/k)))`` random numbers. A stream
    of fewer than ``k`` elements comes back whole.

    K.-H. Li, Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n))),
    ACM TOMS 20(4), 1994.

    >>> sorted(fast_reservoir_sampling("abc", 5, seed=0))
    ['a', 'b', 'c']

    :param seed: ``None`` derives one from torch's global generator.
    :raises ValueError: for ``k`` below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1 element, got {k}")
    draw = random.Random(seed if seed is not None else derived_seed())
    iterator = iter(stream)
    kept = list(itertools.islice(iterator, k))
    if len(kept) < k:
        return kept
    weight = 1.0
    while True:
        weight *= math.exp(math.log(_open_unit(draw)) / k)
        skip = math.floor(math.log(_open_unit(draw)) / math.log1p(-weight))
        following = next(itertools.islice(iterator, skip, skip + 1), _END)
        if following is _END:
            return kept
        kept[draw.randrange(k)] = following  # type: ignore[assignment]


_END = object()


def _open_unit(draw: random.Random) -> float:
    """Uniform on the open interval: neither end has a logarithm that can be used."""
    return (draw.getrandbits(52) + 0.5) * 2.0**-52


def derived_seed() -> int:
    """A seed drawn from torch's global generator, so that its seed is enough."""
    return int(torch.randint(2**62, ()).item())


def slots_tensor(slots: Slots, n: int) -> Tensor:
    """Slot of each of ``n`` incoming rows, −1 where it is not kept."""
    taken = torch.full((n,), -1)
    for slot, position in slots.items():
        taken[position] = slot
    return taken
