"""Admission by value: the rows worth least leave."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from avalanche_ext.storage.by_class import ByClass, largest_first
from avalanche_ext.storage.policy import NOTHING, Compared, Groups, Slots

Balance = Literal["class", "none"]


class Score(ByClass):
    """Rows of the lowest value leave, those that arrive among them.

    The value of a row is told by the memory:
    ``mean of the normalised criteria − w_age · age + w_use · access``.

    With ``balance="class"`` the largest class loses its row of lowest value, again and
    again until the others fit: classes are as even as the stream allows, whatever the
    scores, so no past task starves. With ``balance="none"`` the rows of lowest value
    leave whatever their class. Scores of classes that the model knows well are low, or
    high where it forgets them, so classes may then vanish from the memory.

    :param balance: what is kept even.
    :raises ValueError: for another balance.
    """

    name = "score"
    needs_values = True

    def __init__(self, balance: Balance = "class") -> None:
        super().__init__()
        if balance not in get_args(Balance):
            raise ValueError(
                f"unknown balance {balance!r}: choose one of {get_args(Balance)}"
            )
        self.balance = balance
        self.needs_groups = balance == "class"

    def surplus(self, groups: Groups, size: int) -> list[int]:
        return super().surplus(groups, size) if self.needs_groups else []

    def forget(self, slots: Iterable[int], moves: Mapping[int, int]) -> None:
        if self.needs_groups:
            super().forget(slots, moves)

    def admit(
        self,
        groups: Groups,
        stored: int,
        size: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> Slots:
        n, values = len(groups), compared.values
        ranks = [self._ranks[group] for group in groups] if self.needs_groups else []
        excess = stored + n - size
        leaving: list[int] = []  # slots, and stored + position of rows that arrive
        if excess > 0:
            if values is None or len(values) != stored + n:
                raise ValueError(
                    f"admission 'score' needs the values of {stored} rows stored and "
                    f"{n} that arrive: give a model"
                )
            arriving: list[list[int]] = [[] for _ in self._slots]
            for position, rank in enumerate(ranks):
                arriving[rank].append(stored + position)
            members = [
                [*held, *new] for held, new in zip(self._slots, arriving, strict=True)
            ]
            leaving = list(self._lowest(excess, members, stored + n, values))
        free = iter([*range(stored, min(size, stored + n)), *_below(leaving, stored)])
        gone = set(leaving)
        slots = {
            next(free): position
            for position in range(n)
            if stored + position not in gone
        }
        if self.needs_groups:
            for slot in _below(leaving, stored):
                self._slots[self._owner.pop(slot)].remove(slot)
            for slot, position in slots.items():
                self._slots[ranks[position]].append(slot)
                self._owner[slot] = ranks[position]
        return slots

    def victims(
        self,
        n: int,
        stored: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> list[int]:
        values = compared.values
        if values is None:
            raise ValueError("admission 'score' evicts by value: give a model")
        return list(self._lowest(n, list(map(list, self._slots)), stored, values))

    def _lowest(
        self, n: int, members: list[list[int]], rows: int, values: Tensor
    ) -> Iterator[int]:
        """The ``n`` rows to leave; of equal values the one stored first, without balance
        the one at the lowest slot."""
        if not self.needs_groups:
            yield from _order(values[:rows])[:n].tolist()
            return
        leave = [0] * len(members)
        for rank in islice(largest_first(members), n):
            leave[rank] += 1
        for rows_of_class, count in zip(members, leave, strict=True):
            if count:
                own = torch.tensor(rows_of_class)
                yield from own[_order(values[own])[:count]].tolist()


def _order(values: Tensor) -> Tensor:
    return values.argsort(stable=True)


def _below(rows: list[int], stored: int) -> list[int]:
    return [row for row in rows if row < stored]
