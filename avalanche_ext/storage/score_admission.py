"""Admission by value: the rows worth least leave."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from avalanche_ext.arguments import check_choice
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

    Of a memory of more than 2,048 rows, about as many drawn at random for each batch are
    compared, so the cost of a batch does not grow with the memory. These are few of each
    class where classes are many: of a class that must lose a row and of which none is among
    them, the row that arrives leaves.

    :param balance: what is kept even.
    :raises ValueError: for another balance.
    """

    name = "score"
    needs_values = True

    def __init__(self, balance: Balance = "class") -> None:
        super().__init__()
        check_choice("balance", balance, get_args(Balance))
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
            some = compared.slots
            told = list(range(stored)) if some is None else some.tolist()
            if values is None or len(values) != len(told) + n:
                raise ValueError(
                    f"admission 'score' needs the values of {len(told)} rows stored and "
                    f"{n} that arrive: give a model"
                )
            known = dict(zip(told, range(len(told)), strict=True))
            known |= {stored + i: len(told) + i for i in range(n)}
            arriving: list[list[int]] = [[] for _ in self._slots]
            for position, rank in enumerate(ranks):
                arriving[rank].append(stored + position)
            leaving = list(self._lowest(excess, arriving, known, values))
        free = iter([*range(stored, min(size, stored + n)), *_below(leaving, stored)])
        gone = set(leaving)
        slots = {
            next(free): position
            for position in range(n)
            if stored + position not in gone
        }
        if self.needs_groups:
            for slot in _below(leaving, stored):
                del self._slots[self._owner.pop(slot)][slot]
            for slot, position in slots.items():
                self._slots[ranks[position]][slot] = None
                self._owner[slot] = ranks[position]
        return slots

    def _in_order(self, slots: Iterable[int] = ()) -> dict[int, None]:
        """In order, and each is found at once."""
        return dict.fromkeys(slots)

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
        known = {slot: slot for slot in range(stored)}
        return list(self._lowest(n, [[] for _ in self._slots], known, values))

    def _lowest(
        self,
        n: int,
        arriving: list[list[int]],
        known: dict[int, int],
        values: Tensor,
    ) -> Iterator[int]:
        """The ``n`` rows to leave; of equal values the one stored first, without balance
        the one at the lowest slot.

        :param arriving: rows of each class that arrive.
        :param known: row → place of its value.
        """
        if not self.needs_groups:
            rows = list(known)
            for place in _order(values)[:n].tolist():
                yield rows[place]
            return
        pairs = list(zip(self._slots, arriving, strict=True))
        leave = [0] * len(pairs)
        sizes = [range(len(held) + len(new)) for held, new in pairs]
        for rank in islice(largest_first(sizes), n):
            leave[rank] += 1
        own = self._compared_of(leave, known)
        for rank, ((held, new), count) in enumerate(zip(pairs, leave, strict=True)):
            if count:
                rows = [*own[rank], *new]
                # Where fewer are compared than leave, the others are those stored first.
                unknown = (slot for slot in held if slot not in known)
                yield from islice(unknown, max(0, count - len(rows)))
                order = _order(values[torch.tensor([known[row] for row in rows])])
                for place in order[:count].tolist():
                    yield rows[place]

    def _compared_of(
        self, leave: list[int], known: dict[int, int]
    ) -> Sequence[Iterable[int]]:
        """Of each class that loses rows: those stored that are compared."""
        if len(known) >= len(self._owner):
            return self._slots
        own: list[list[int]] = [[] for _ in leave]
        for row in known:
            rank = self._owner.get(row)
            if rank is not None and leave[rank]:
                own[rank].append(row)
        return own


def _order(values: Tensor) -> Tensor:
    return values.argsort(stable=True)


def _below(rows: list[int], stored: int) -> list[int]:
    return [row for row in rows if row < stored]
