"""What every admission answers: which slots an incoming batch takes.

A policy is told the groups (classes) of the incoming rows, how many rows are stored
and the largest number of them, and answers with slots; it never sees rows. What it
keeps besides, the slots of each group, is an index of the table's rows that is told
of every move.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

Groups = Sequence[Hashable]
"""The group of each row of a batch."""

Slots = dict[int, int]
"""Slot → position in the incoming batch of the row that takes it."""


class Vectors(NamedTuple):
    """What rows are, as vectors, for policies that compare them."""

    incoming: Tensor
    """Of the rows that arrive, shape ``(n, d)``."""
    of: Callable[[Sequence[int]], Tensor]
    """Of the rows stored at some slots, shape ``(k, d)``."""
    form: int
    """Another number where the rows stored have another form than before."""


class Compared(NamedTuple):
    """What rows are compared by, where a policy needs it."""

    values: Tensor | None = None
    """Of each row stored, or of those at ``slots``, then of each that arrives."""
    slots: Tensor | None = None
    """Of the rows stored that are compared, where they are not all."""
    vectors: Vectors | None = None
    """What the rows are."""


NOTHING = Compared()


class Admission(ABC):
    """What to keep. One instance serves one memory.

    ``stored`` is the number of rows held, at slots ``0 … stored − 1``; ``size`` the
    largest number of them.
    """

    name: ClassVar[str]
    """What options and errors call it."""

    needs_groups = True
    """Whether the groups of incoming rows are looked at (a copy to the host)."""

    needs_values = False
    """Whether rows are compared by value where not all fit."""

    needs_vectors = False
    """Whether every row is looked at."""

    @abstractmethod
    def admit(
        self,
        groups: Groups,
        stored: int,
        size: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> Slots:
        """Slots for a batch whose rows arrive one after the other."""

    @abstractmethod
    def victims(
        self,
        n: int,
        stored: int,
        draw: Generator,
        compared: Compared = NOTHING,
    ) -> list[int]:
        """The ``n`` slots to empty when the memory must shrink."""

    def surplus(self, groups: Groups, size: int) -> list[int]:
        """Slots to empty before a batch of ``groups`` is admitted to ``size`` rows.

        :raises ValueError: when the size cannot serve the groups; nothing changed.
        """
        return []

    def to_compare(
        self, groups: Groups, stored: int, size: int, most: int, draw: Generator
    ) -> Tensor | None:
        """Slots of the rows stored that a batch is compared with by value, at most
        ``most``; ``None``: of all."""
        return None

    def classes_with(self, groups: Groups) -> int:
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


def slots_tensor(slots: Slots, n: int) -> Tensor:
    """Slot of each of ``n`` incoming rows, −1 where it is not kept."""
    taken = torch.full((n,), -1)
    for slot, position in slots.items():
        taken[position] = slot
    return taken
