"""A memory of rows: what is kept of those offered, and what is drawn from it."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from avalanche_ext.arguments import whole_number
from avalanche_ext.storage.classes import class_of_each
from avalanche_ext.storage.comparing import Comparing, Read
from avalanche_ext.storage.held_rows import FACTS, HeldRows
from avalanche_ext.storage.policy import NOTHING, Admission, Slots, slots_tensor
from avalanche_ext.storage.rows import (
    Rows,
    check_rows,
    count,
    index_tensor,
    take,
)
from avalanche_ext.storage.sampling import Sampling
from avalanche_ext.storage.scored import Scored
from avalanche_ext.storage.scorer import Scorer
from avalanche_ext.storage.uniform import Draw
from avalanche_ext.storage.value import Value


class Memory(HeldRows):
    """Rows of a table, kept by an admission policy and drawn by a sampling.

    It knows rows, policies, scores and a seed, and neither Avalanche nor transforms.
    Every change of the table goes through it, so that facts, scores and policy stay in
    step with the rows.

    :param policy: what to keep.
    :param sampling: what to replay.
    :param scorer: scores the rows of a table, whose capacity is the memory's size.
    :param value: of a row, for an admission by value.
    :param grow_by: rows by which the size grows with each class that is met.
    :param seed: of admission and of draws.
    """

    def __init__(
        self,
        policy: Admission,
        *,
        sampling: Sampling,
        scorer: Scorer,
        value: Value,
        grow_by: int | None = None,
        seed: int,
    ) -> None:
        super().__init__(scorer, sampling, seed ^ 0x5EED)
        self.max_size = self.table.capacity
        """The largest number of rows."""
        self._policy = policy
        self._comparing = Comparing(policy, scorer, value)
        self._grow_by = grow_by
        self._admitting = torch.Generator().manual_seed(seed)

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
        model: nn.Module | None = None,
        columns: Mapping[str, Rows] | None = None,
        compute_scores: bool = True,
    ) -> Tensor:
        """Offer a batch.

        Rows that are kept are scored where scores are needed and a model is given. Else
        their scores are stale, and found when a draw or an admission needs them.

        :param x: inputs, a tensor or a nested mapping of tensors, ``n`` rows.
        :param y: targets, ``n`` rows.
        :param task: task labels, shape ``(n,)``: always or never.
        :param model: under which rows are scored, remembered by a weak reference.
        :param columns: further columns to keep beside them, ``n`` rows each.
        :param compute_scores: ``False`` leaves the scores of these rows stale.
        :return: the slot of each row, −1 where it was not kept.
        :raises TypeError: for anything but tensors and mappings of tensors.
        :raises ValueError: when lengths disagree, or rows differ in form from those
            stored; for an admission by class, when there are more classes than rows or
            targets are no class labels; for an admission by value, where scores are
            needed and no model was ever given; for NaN scores.
        """
        given = {"x": x, "y": y, "task": task, **(columns or {})}
        for name, rows in given.items():
            if rows is not None or name != "task":
                check_rows(name, rows)
        self.scorer.meet(model)
        slots = self.offer(x, y, task, columns)
        if slots and model is not None and compute_scores:
            self.scorer.settle()
        return slots_tensor(slots, len(y))

    def offer(
        self,
        x: Rows,
        y: Tensor,
        task: Tensor | None = None,
        columns: Mapping[str, Rows] | None = None,
        scored: Scored | None = None,
    ) -> Slots:
        """:meth:`add` for inner loops: slot → position of the rows that were kept.

        :param scored: what is known of the rows.
        """
        n = len(y)
        batch: dict[str, Rows] = {"x": x, "y": y}
        if task is not None:
            batch["task"] = task
        if columns:
            self._check_columns(columns)
            batch.update(columns)
        for column in batch.values():
            if count(column) != n:
                lengths = {name: count(column) for name, column in batch.items()}
                raise ValueError(
                    f"a batch needs one number of rows, got {lengths}: give every "
                    "column one row for each target"
                )
        self.table.check(batch, without=self._facts)
        groups = self._classes(y, task) if self._policy.needs_groups else range(n)
        return self._admit(
            groups,
            lambda position: {
                name: take(rows, position) for name, rows in batch.items()
            },
            scored,
        )

    def _classes(self, y: Tensor, task: Tensor | None) -> Sequence[Hashable]:
        return class_of_each(y, task, f"admission {self._policy.name!r}")

    def _admit(
        self,
        groups: Sequence[Hashable],
        read: Read,
        scored: Scored | None = None,
    ) -> Slots:
        """Decide on the next rows and store those kept.

        :param groups: of each row, as the policy is told them.
        :param read: the columns of the rows at given positions.
        :param scored: what is known of the rows; ``None``: it is found out only where
            the policy asks for it.
        """
        n = len(groups)
        if self._policy.needs_groups:
            if self._grow_by is not None:
                self._grow(self._grow_by * self._policy.classes_with(groups))
            self._discard(self._policy.surplus(groups, self.max_size))
        compared = NOTHING
        if self._policy.needs_values or self._policy.needs_vectors:
            if self._policy.needs_values:
                self._drawing.count_uses()
            compared, scored = self._comparing.arriving(
                read, groups, scored, self.max_size, self._admitting
            )
        slots = self._policy.admit(
            groups, len(self.table), self.max_size, self._admitting, compared
        )
        first = self.seen
        self._counters.seen += n
        if slots:
            self._drawing.count_uses()
            position = index_tensor(list(slots.values()))
            known = None if scored is None else scored.take(position)
            where = index_tensor(list(slots))
            try:
                rows = read(position)
                rows["arrival"] = first + 1 + position
                rows["uses"] = torch.zeros(len(position), dtype=torch.int32)
                drawn = torch.full((len(position),), self.draws, dtype=torch.int32)
                rows["drawn"] = drawn
                rows |= self._scores.columns(len(position), known)
                self.table.put(where, rows, max(len(self.table), max(slots) + 1))
            except BaseException:
                self._take_back(slots, groups)
                raise
            self._scores.written(where, known)
        return slots

    def _take_back(self, slots: Slots, groups: Sequence[Hashable]) -> None:
        """Rows that cannot be read will not take the slots that the policy gave them.

        Those stored stay where the policy still counts their slot to their class.
        """
        stored = len(self.table)
        lost = [slot for slot in slots if slot >= stored]
        if self._policy.needs_groups and len(lost) < len(slots):
            held = index_tensor([slot for slot in slots if slot < stored])
            rows = self.table.gather(held, {"y", "task"} & set(self.table.columns))
            before = self._classes(rows["y"], rows.get("task"))
            for slot, group in zip(held.tolist(), before, strict=True):
                if group != groups[slots[slot]]:
                    lost.append(slot)
        self._discard(lost)

    def _grow(self, size: int) -> None:
        if size > self.max_size:
            self.table.resize(size)
            self.max_size = size

    def evict(self, n: int) -> None:
        """Remove ``n`` rows: random ones of a reservoir, the oldest of the largest
        classes of a ring, random ones of the largest classes of a balanced memory,
        those of the lowest value of an admission by value.

        :raises ValueError: when fewer than one row would be left.
        """
        n = whole_number("n", n, "rows", least=0)
        if n >= max(1, len(self)):
            raise ValueError(
                f"cannot evict {n} of {len(self)} rows: n must leave at least one row"
            )
        if not n:
            return
        self._drawing.count_uses()
        compared = self._comparing.stored()
        self._discard(self._policy.victims(n, len(self), self._admitting, compared))

    def set_size(self, size: int) -> None:
        """Change the capacity; rows that no longer fit leave as by :meth:`evict`.

        :raises ValueError: for a size below 1, or below the number of classes for an
            admission by class.
        """
        size = whole_number("max_size", size, "rows", least=1)
        self._discard(self._policy.surplus([], size))
        if len(self) > size:
            self.evict(len(self) - size)
        self.table.resize(size)
        self.max_size = size

    def _discard(self, slots: list[int]) -> None:
        """Empty slots; of those behind the rows stored only the policy knows."""
        if slots:
            self._drawing.count_uses()
            held = [slot for slot in slots if slot < len(self.table)]
            moves = self.table.remove(index_tensor(held))
            self._scores.removed(held)
            self._policy.forget(slots, moves)

    # What to replay

    @property
    def sampling(self) -> str:
        """What is replayed, by name."""
        return self._drawing.sampling.name

    @property
    def weighs(self) -> bool:
        """Whether rows drawn have importance weights."""
        return self._drawing.sampling.weighs

    def sample(
        self,
        n: int,
        strategy: str | Sampling | None = None,
        *,
        temperature: float | None = None,
        model: nn.Module | None = None,
    ) -> TensorDict:
        """Draw ``n`` rows; more than are stored returns all of them, once each.

        :param strategy: a sampling other than the memory's own.
        :param temperature: of a sampling by the softmax of scores.
        :param model: under which rows of stale scores are scored first; ``None``: the
            one met last.
        :return: ``x``, ``y``, ``task`` (where stored), ``index`` (slots), ``weight``
            (importance weight, 1 where nothing is corrected) and all other columns.
        :raises ValueError: for an empty memory, a negative ``n``, an unknown sampling,
            NaN scores, or stale ones without a model.
        """
        sampling = self._drawing.sampling
        if strategy is not None or temperature is not None:
            chosen = sampling if strategy is None else strategy
            sampling = self._scores.sampling(chosen, temperature)
        n = whole_number("n", n, "rows", least=0)
        if not len(self):
            raise ValueError(f"cannot sample {n} rows of 0: add rows first")
        self.scorer.meet(model)
        self._drawing.need(sampling)
        draw = self.draw(n, sampling)
        self._drawing.count_uses()
        rows: dict[str, Any] = self.table.gather(draw.index)
        rows["index"] = draw.index
        rows["weight"] = draw.weight
        return TensorDict(rows, batch_size=[len(draw.index)])

    def draw(self, n: int, sampling: Sampling | None = None) -> Draw:
        """:meth:`sample` for inner loops: slots of ``n`` rows and their weights.

        :param sampling: another than the memory's own, which scores were asked for.
        """
        full = len(self.table) == self.max_size
        return self._drawing.draw(n, sampling, full)

    def _check_columns(self, columns: Mapping[str, Rows]) -> None:
        own = {"x", "y", "task", "index", "weight", *FACTS, *self._scores.reserved}
        reserved = {name for name in columns if name in own or name[:6] == "score_"}
        if reserved:
            raise ValueError(
                f"the columns {sorted(reserved)} are the memory's own: name yours "
                "otherwise"
            )

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that a loaded memory goes on bit for bit."""
        self._drawing.count_uses()
        return {
            "max_size": self.max_size,
            "seen": self.seen,
            "draws": self.draws,
            "table": self.table.state_dict(),
            "policy": self._policy.state_dict(),
            "scores": self._scores.state_dict(),
            "admitting": self._admitting.get_state(),
            **self._drawing.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict`` of a memory with the same policy and criteria.

        :raises ValueError: for the state of a memory with other criteria.
        """
        self._scores.check_state(state.get("scores"))
        self.max_size = state["max_size"]
        self._counters.seen = state["seen"]
        self._counters.draws = state.get("draws", 0)
        self.table.load_state_dict(state["table"])
        if self.table.columns and "drawn" not in self.table.columns:  # an older state
            self.table.recast({"drawn": torch.zeros_like(self.table.column("uses"))})
        self._policy.load_state_dict(state["policy"])
        self._scores.load_state_dict(state.get("scores"))
        self._admitting.set_state(state["admitting"])
        self._drawing.load_state_dict(state)
