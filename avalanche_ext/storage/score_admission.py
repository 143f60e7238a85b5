"""Admission by value: the rows worth least leave."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor

from avalanche_ext.arguments import check_choice
from avalanche_ext.storage.by_class import ByClass, largest_first
from avalanche_ext.storage.class_slots import ClassSlots, some_of
from avalanche_ext.storage.policy import NOTHING, Compared, Groups, Slots
from avalanche_ext.storage.rows import index_tensor

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

    Of a memory of more than 2,048 rows at most as many are compared for each batch, so the
    cost of a batch does not grow with the memory: of those that may leave, with
    ``balance="class"`` the rows of classes that must lose one, all up to this number, and
    of more a random choice. Criteria are normalised over the rows that are compared.

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

    def to_compare(
        self, groups: Groups, stored: int, size: int, most: int, draw: Generator
    ) -> Tensor | None:
        if stored <= most:
            return None
        if not self.needs_groups:
            drawn = torch.randint(stored, (most,), generator=draw)
            slots: Tensor = torch.unique(drawn)
            return slots
        arriving = Counter(self._ranks[group] for group in groups)
        leave = self._leave(stored + len(groups) - size, arriving)
        classes = [self._slots[rank] for rank, count in enumerate(leave) if count]
        return some_of(classes, most, draw)

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
            arriving: dict[int, list[int]] = {}
            for position, rank in enumerate(ranks):
                arriving.setdefault(rank, []).append(stored + position)
            leaving = list(self._lowest(excess, arriving, known, values, some))
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
                self._slots[ranks[position]].add(slot)
                self._owner[slot] = ranks[position]
        return slots

    def _in_order(self, slots: Iterable[int] = ()) -> ClassSlots:
        return ClassSlots(slots)

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
        return list(self._lowest(n, {}, known, values))

    def state_dict(self) -> dict[str, Any]:
        places = [list(held.places) for held in self._slots]
        return {**super().state_dict(), "places": self._by_group(places)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        older: dict[Hashable, list[int]] = state["slots"]  # which has no places
        for held, places in zip(
            self._slots, state.get("places", older).values(), strict=True
        ):
            held.place_as(places)

    def _leave(self, n: int, arriving: Mapping[int, int]) -> list[int]:
        """Of each class how many rows leave, where ``n`` do.

        :param arriving: number of rows that arrive of a class.
        """
        leave = [0] * len(self._slots)
        sizes = (len(held) + arriving.get(i, 0) for i, held in enumerate(self._slots))
        for rank in islice(largest_first(map(range, sizes)), n):
            leave[rank] += 1
        return leave

    def _lowest(
        self,
        n: int,
        arriving: Mapping[int, list[int]],
        known: Mapping[int, int],
        values: Tensor,
        some: Tensor | None = None,
    ) -> Iterator[int]:
        """The ``n`` rows to leave; of equal values the one stored first, without balance
        the one at the lowest slot.

        :param arriving: rows that arrive of a class.
        :param known: row → place of its value.
        :param some: slots that are compared; ``None``: all.
        """
        if not self.needs_groups:
            rows = list(known)
            for place in _order(values)[:n].tolist():
                yield rows[place]
            return
        own: Sequence[Iterable[int]] = self._slots
        if some is not None:
            own = self._by_class(some)
        leave = self._leave(n, {rank: len(rows) for rank, rows in arriving.items()})
        for rank, count in enumerate(leave):
            if count:
                rows = [*own[rank], *arriving.get(rank, ())]
                # Where fewer are compared than leave, the others are those stored first.
                unknown = (slot for slot in self._slots[rank] if slot not in known)
                yield from islice(unknown, max(0, count - len(rows)))
                order = _order(values[index_tensor([known[row] for row in rows])])
                for place in order[:count].tolist():
                    yield rows[place]

    def _by_class(self, slots: Tensor) -> list[list[int]]:
        own: list[list[int]] = [[] for _ in self._slots]
        for slot in slots.tolist():
            own[self._owner[slot]].append(slot)
        return own


def _order(values: Tensor) -> Tensor:
    return values.argsort(stable=True)


def _below(rows: list[int], stored: int) -> list[int]:
    return [row for row in rows if row < stored]
