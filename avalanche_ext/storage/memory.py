"""A memory of rows: what is kept of those offered, and what is drawn from it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from avalanche_ext.storage.classes import class_counts, class_of_each
from avalanche_ext.storage.draws import Draws
from avalanche_ext.storage.policy import Admission, Slots, slots_tensor
from avalanche_ext.storage.rows import Rows, check_rows, count, index_tensor, take
from avalanche_ext.storage.sampling import check_sampling
from avalanche_ext.storage.table import ExemplarTable

FACTS = ("arrival", "uses")
"""Columns that the memory adds to each row."""


class Memory:
    """Rows of a table, kept by an admission policy and drawn at random.

    It knows rows, policies and a seed, and neither Avalanche nor transforms. Every
    change of the table goes through it, so that facts and policy stay in step with the
    rows.

    :param table: where rows are; its capacity is the memory's size.
    :param policy: what to keep.
    :param sampling: what to replay, by name.
    :param grow_by: rows by which the size grows with each class that is met.
    :param seed: of admission and of draws.
    """

    def __init__(
        self,
        table: ExemplarTable,
        policy: Admission,
        *,
        sampling: str,
        grow_by: int | None = None,
        seed: int,
    ) -> None:
        self.table = table
        self.max_size = table.capacity
        """The largest number of rows."""
        self.sampling = sampling
        self.seen = 0
        """Number of rows offered so far."""
        self._policy = policy
        self._grow_by = grow_by
        self._admitting = torch.Generator().manual_seed(seed)
        self._draws = Draws(seed ^ 0x5EED)
        self._used: list[Tensor] = []  # draws not yet counted in the uses column

    def __len__(self) -> int:
        return len(self.table)

    @property
    def grows(self) -> bool:
        """Whether ``max_size`` grows with the number of classes."""
        return self._grow_by is not None

    # What to keep

    def add(
        self,
        x: Rows,
        y: Tensor,
        task: Tensor | None = None,
        *,
        columns: Mapping[str, Rows] | None = None,
    ) -> Tensor:
        """Offer a batch.

        :param x: inputs, a tensor or a nested mapping of tensors, ``n`` rows.
        :param y: targets, ``n`` rows.
        :param task: task labels, shape ``(n,)``: always or never.
        :param columns: further columns to keep beside them, ``n`` rows each.
        :return: the slot of each row, −1 where it was not kept.
        :raises TypeError: for anything but tensors and mappings of tensors.
        :raises ValueError: when lengths disagree, or rows differ in form from those
            stored; for an admission by class, when there are more classes than rows or
            targets are no class labels.
        """
        given = {"x": x, "y": y, "task": task, **(columns or {})}
        for name, rows in given.items():
            if rows is not None:
                check_rows(name, rows)
        return slots_tensor(self.offer(x, y, task, columns), len(y))

    def offer(
        self,
        x: Rows,
        y: Tensor,
        task: Tensor | None = None,
        columns: Mapping[str, Rows] | None = None,
    ) -> Slots:
        """:meth:`add` for inner loops: slot → position of the rows that were kept."""
        n = len(y)
        batch: dict[str, Rows] = {"x": x, "y": y}
        if task is not None:
            batch["task"] = task
        if columns:
            _check_columns(columns)
            batch.update(columns)
        for column in batch.values():
            if count(column) != n:
                lengths = {name: count(column) for name, column in batch.items()}
                raise ValueError(
                    f"a batch needs one number of rows, got {lengths}: give every "
                    "column one row for each target"
                )
        self.table.check(batch, without=FACTS)
        groups = self._classes(y, task) if self._policy.needs_groups else range(n)
        return self._admit(
            groups,
            lambda position: {
                name: take(rows, position) for name, rows in batch.items()
            },
        )

    def _classes(self, y: Tensor, task: Tensor | None) -> Sequence[Hashable]:
        return class_of_each(y, task, f"admission {self._policy.name!r}")

    def _admit(
        self,
        groups: Sequence[Hashable],
        read: Callable[[Tensor], dict[str, Rows]],
    ) -> Slots:
        """Decide on the next rows and store those kept.

        :param groups: of each row, as the policy is told them.
        :param read: the columns of the rows at given positions.
        """
        n = len(groups)
        if self._policy.needs_groups:
            if self._grow_by is not None:
                self._grow(self._grow_by * self._policy.classes_with(groups))
            self._discard(self._policy.surplus(groups, self.max_size))
        slots = self._policy.admit(
            groups, len(self.table), self.max_size, self._admitting
        )
        first = self.seen
        self.seen += n
        if slots:
            self._count_uses()
            position = index_tensor(list(slots.values()))
            rows = read(position)
            rows["arrival"] = first + 1 + position
            rows["uses"] = torch.zeros(len(position), dtype=torch.int32)
            length = max(len(self.table), max(slots) + 1)
            self.table.put(index_tensor(list(slots)), rows, length)
        return slots

    def _grow(self, size: int) -> None:
        if size > self.max_size:
            self.table.resize(size)
            self.max_size = size

    def evict(self, n: int) -> None:
        """Remove ``n`` rows: random ones of a reservoir, the oldest of the largest
        classes of a ring, random ones of the largest classes of a balanced memory.

        :raises ValueError: when fewer than one row would be left.
        """
        if not 0 <= n < max(1, len(self)):
            raise ValueError(
                f"cannot evict {n} of {len(self)} rows: n must leave at least one row"
            )
        self._discard(self._policy.victims(n, len(self.table), self._admitting))

    def set_size(self, size: int) -> None:
        """Change the capacity; rows that no longer fit leave as by :meth:`evict`.

        :raises ValueError: for a size below 1, or below the number of classes for an
            admission by class.
        """
        check_size(size)
        self._discard(self._policy.surplus([], size))
        if len(self) > size:
            self.evict(len(self) - size)
        self.table.resize(size)
        self.max_size = size

    def _discard(self, slots: list[int]) -> None:
        if slots:
            self._count_uses()
            moves = self.table.remove(torch.tensor(slots))
            self._policy.forget(slots, moves)

    # What to replay

    def sample(self, n: int, strategy: str | None = None) -> TensorDict:
        """Draw ``n`` rows; more than are stored returns all of them, once each.

        :param strategy: a sampling other than the memory's own.
        :return: ``x``, ``y``, ``task`` (where stored), ``index`` (slots), ``weight``
            (importance weight, 1 for uniform sampling), ``arrival``, ``uses``.
        :raises ValueError: for an empty memory, a negative ``n``, an unknown sampling.
        """
        check_sampling(strategy or self.sampling)
        if n < 0 or not len(self):
            raise ValueError(
                f"cannot sample {n} rows of {len(self)}: add rows first and ask for "
                "a number that is not negative"
            )
        index = self.draw(n)
        rows: dict[str, Any] = self.table.gather(index)
        rows["index"] = index
        rows["weight"] = torch.ones(len(index))
        return TensorDict(rows, batch_size=[len(index)])

    def draw(self, n: int) -> Tensor:
        """Slots of ``n`` rows by the memory's own sampling, counted as used.

        Draws of a memory that no longer grows are made many at a time.
        """
        stored = len(self.table)
        index = self._draws.uniform(stored, n, full=stored == self.max_size)
        self._used.append(index)
        if len(self._used) > 256:
            self._count_uses()
        return index

    def _count_uses(self) -> None:
        if self._used:
            index = torch.cat(self._used)
            self._used.clear()
            if len(self.table):
                uses = self.table.column("uses")
                index = index.to(uses.device)
                uses.index_add_(0, index, torch.ones_like(index, dtype=uses.dtype))

    # What is known of the rows

    @property
    def uses(self) -> Tensor:
        """How often each row was sampled, shape ``(len(memory),)``."""
        self._count_uses()
        return self._fact("uses")

    @property
    def ages(self) -> Tensor:
        """Rows offered since each row was, shape ``(len(memory),)``."""
        return self.seen - self._fact("arrival")

    def class_counts(self) -> dict[Any, int]:
        """Rows stored of each class: by label, or by ``(task, label)`` where task
        labels are stored.

        :raises ValueError: for targets that are no class labels.
        """
        if not len(self):
            return {}
        task = self.table.column("task") if "task" in self.table.columns else None
        return class_counts(self.table.column("y"), task, "class_counts()")

    def _fact(self, name: str) -> Tensor:
        if not len(self.table):
            return torch.zeros(0, dtype=torch.long)
        facts: Tensor = self.table.column(name).clone()
        return facts

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that a loaded memory goes on bit for bit."""
        self._count_uses()
        return {
            "max_size": self.max_size,
            "seen": self.seen,
            "table": self.table.state_dict(),
            "policy": self._policy.state_dict(),
            "admitting": self._admitting.get_state(),
            **self._draws.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict`` of a memory with the same policy."""
        self.max_size = state["max_size"]
        self.seen = state["seen"]
        self.table.load_state_dict(state["table"])
        self._policy.load_state_dict(state["policy"])
        self._admitting.set_state(state["admitting"])
        self._draws.load_state_dict(state)
        self._used = []


def check_size(max_size: int) -> None:
    """Refuse what is no number of rows.

    :raises ValueError: naming what was given.
    """
    if not isinstance(max_size, int) or max_size < 1:
        raise ValueError(
            f"max_size must be a whole number of rows, at least 1, got {max_size!r}"
        )


def _check_columns(columns: Mapping[str, Rows]) -> None:
    reserved = {"x", "y", "task", *FACTS} & set(columns)
    if reserved:
        raise ValueError(
            f"the columns {sorted(reserved)} are the memory's own: name yours otherwise"
        )
