"""Reservoirs: a uniform sample of everything that was offered."""

import itertools
import math
import random
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Generator

from avalanche_ext.arguments import whole_number
from avalanche_ext.storage.policy import NOTHING, Admission, Compared, Groups, Slots
from avalanche_ext.storage.seeds import given_or_derived

T = TypeVar("T")


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

    name = "reservoir"
    needs_groups = False
    _AHEAD = 4096

    def __init__(self) -> None:
        self.seen = 0
        self._size = 0
        self._decided = 0  # rows up to this number have a decision
        self._accepted: deque[tuple[int, int]] = deque()  # (row number, slot)

    def admit(
        self,
        groups: Groups,
        stored: int,
        size: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> Slots:
        if size != self._size:
            self._size, self._decided = size, self.seen
            self._accepted.clear()
        first, last = self.seen + 1, self.seen + len(groups)
        while self._decided < last:
            self._decide(draw)
        slots: Slots = {}
        while self._accepted and self._accepted[0][0] <= last:
            number, slot = self._accepted.popleft()
            if slot >= stored:  # empty: rows stay dense
                slot, stored = stored, stored + 1
            slots[slot] = number - first
        self.seen = last
        return slots

    def _decide(self, draw: Generator) -> None:
        number = torch.arange(self._decided + 1, self._decided + self._AHEAD + 1)
        chance = torch.rand(self._AHEAD, generator=draw, dtype=torch.float64)
        slot = torch.where(number <= self._size, number - 1, (chance * number).long())
        kept = slot < self._size
        self._accepted.extend(
            zip(number[kept].tolist(), slot[kept].tolist(), strict=True)
        )
        self._decided += self._AHEAD

    def victims(
        self,
        n: int,
        stored: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> list[int]:
        return torch.randperm(stored, generator=draw)[:n].tolist()

    def state_dict(self) -> dict[str, Any]:
        return {
            "seen": self.seen,
            "capacity": self._size,
            "decided": self._decided,
            "accepted": torch.tensor(list(self._accepted)).reshape(-1, 2),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]
        self._size = state["capacity"]
        self._decided = state["decided"]
        self._accepted = deque((n, s) for n, s in state["accepted"].tolist())


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

    :param stream: what to draw from, once through.
    :param k: number of elements.
    :param seed: ``None`` derives one from torch's global generator.
    :return: the elements, in no order that means anything.
    :raises ValueError: for ``k`` below 1, or what is no seed.
    """
    k = whole_number("k", k, "elements", least=1)
    draw = random.Random(given_or_derived(seed))
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
