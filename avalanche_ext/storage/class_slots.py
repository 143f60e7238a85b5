"""Slots of one class, of which some can be drawn at random."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import torch
from torch import Generator, Tensor

from avalanche_ext.storage.rows import index_tensor


class ClassSlots:
    """Slots in the order in which they were filled.

    Adding a slot, removing one and naming the one at a place cost the same whatever
    their number. Places are ``0 … len − 1`` in an order that means nothing.

    >>> slots = ClassSlots([5, 3, 8, 1])
    >>> slots.remove(5)
    >>> list(slots), slots.places
    ([3, 8, 1], [1, 3, 8])

    :param slots: in order.
    """

    def __init__(self, slots: Iterable[int] = ()) -> None:
        self._place = {slot: place for place, slot in enumerate(slots)}
        self.places = list(self._place)
        """The slot at each place."""

    def __iter__(self) -> Iterator[int]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self.places)

    def add(self, slot: int) -> None:
        """A slot was filled, the last one so far."""
        self._place[slot] = len(self.places)
        self.places.append(slot)

    def remove(self, slot: int) -> None:
        """A slot was emptied."""
        place, last = self._place.pop(slot), self.places.pop()
        if last != slot:
            self.places[place] = last
            self._place[last] = place  # which leaves it where it is in the order

    def place_as(self, places: Iterable[int]) -> None:
        """Give the same slots other places, those of a state."""
        self.places = list(places)
        self._place |= {slot: place for place, slot in enumerate(self.places)}


def some_of(classes: Sequence[ClassSlots], most: int, draw: Generator) -> Tensor:
    """Slots of the classes, all of them up to ``most``; of more, a random choice.

    :return: distinct slots, those of as many draws with replacement.
    """
    ends = list(accumulate(map(len, classes)))
    total = ends[-1] if ends else 0
    if total <= most:
        return index_tensor([slot for slots in classes for slot in slots])
    chosen = torch.unique(torch.randint(total, (most,), generator=draw))
    of_each = torch.tensor_split(chosen, torch.searchsorted(chosen, index_tensor(ends)))
    found: list[int] = []
    for slots, end, places in zip(classes, ends, of_each, strict=False):
        start = end - len(slots)
        found += map(slots.places.__getitem__, (places - start).tolist())
    return index_tensor(found)
