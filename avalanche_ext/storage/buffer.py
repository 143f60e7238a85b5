"""The rehearsal memory: what to keep and what to replay, as one storage policy."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.storage_policy import ExemplarsBuffer
from tensordict import TensorDict
from torch import Tensor

from avalanche_ext.storage.admission import make_admission
from avalanche_ext.storage.items import check_task_item, has_task_items, item_names
from avalanche_ext.storage.policy import slots_tensor
from avalanche_ext.storage.resident import ItemSource, RowSource, row_source
from avalanche_ext.storage.rows import Rows, check_rows, count, index_tensor, take
from avalanche_ext.storage.sampling import uniform
from avalanche_ext.storage.seeds import derived_seed
from avalanche_ext.storage.stored_dataset import stored_dataset
from avalanche_ext.storage.table import ExemplarTable
from avalanche_ext.storage.transforms import BatchTransform, fingerprint

SAMPLINGS = ("uniform",)

_FACTS = ("arrival", "uses")  # columns that the memory adds to each row

_DRAWS_AHEAD = 128  # draws made at a time once the memory no longer grows


class MultiStrategyBuffer(ExemplarsBuffer):
    """A rehearsal memory whose admission and sampling are chosen separately.

    It serves twice: as an online memory (:meth:`add` a batch, :meth:`sample` rows) and
    as a storage policy of Avalanche (``ReplayPlugin(storage_policy=buffer)``), which
    feeds whole experiences through :meth:`post_adapt` and reads :attr:`buffer`.

    Rows keep the dtype and shape in which they come; the cost of adding a batch does
    not depend on the capacity. The same seed and the same stream give the same
    memory and the same draws, bit for bit.

    >>> memory = MultiStrategyBuffer(100, admission="reservoir", seed=0)
    >>> _ = memory.add(torch.rand(32, 1, 8, 8), torch.arange(32) % 10)
    >>> rows = memory.sample(4)
    >>> rows["x"].shape, rows["y"].shape
    (torch.Size([4, 1, 8, 8]), torch.Size([4]))

    :param max_size: the largest number of rows; ``None``, with ``per_class``, lets it
        grow by ``per_class`` rows with each class that is met.
    :param admission: what to keep: ``"reservoir"``, ``"ring"`` or ``"class_balanced"``
        (see :func:`~avalanche_ext.storage.admission.make_admission`). Where task
        labels are given, a class is a label of a task.
    :param sampling: what to replay: ``"uniform"``, without replacement.
    :param per_class: rows a class, for ``"ring"``; ``None`` shares ``max_size``.
    :param device: where rows live; ``None`` is the host.
    :param directory: a folder for a memory-mapped table, when rows exceed RAM.
    :param seed: ``None`` derives one from torch's global generator.
    :raises ValueError: for a size below 1, or a name that does not exist.
    """

    def __init__(
        self,
        max_size: int | None,
        *,
        admission: Literal["reservoir", "ring", "class_balanced"] = "reservoir",
        sampling: Literal["uniform"] = "uniform",
        per_class: int | None = None,
        device: torch.device | str | None = None,
        directory: str | Path | None = None,
        seed: int | None = None,
    ) -> None:
        self._policy = make_admission(admission, per_class)
        self.grows = max_size is None
        """Whether ``max_size`` grows with the number of classes."""
        if max_size is None:
            if per_class is None:
                raise ValueError(
                    "max_size=None needs the rows a class, per_class=…, of admission "
                    "'ring': give them, or a size"
                )
            max_size = per_class
        self._per_class = per_class
        _check_size(max_size)
        super().__init__(max_size)
        self.max_size: int = max_size
        _check_sampling(sampling)
        self.admission = admission
        self.sampling = sampling
        self.table = ExemplarTable(
            max_size, device=device or "cpu", directory=directory
        )
        self.seen = 0
        """Number of rows offered so far."""
        self.transform: BatchTransform | None = None
        """What makes the model's input of the rows; ``None``: they are it."""
        self._settled = False  # rows of several transforms: kept from after them
        self._loaded: str | None = None  # fingerprint of the transform of loaded rows
        self._tensor_targets = True
        seed = derived_seed() if seed is None else seed
        self._admitting = torch.Generator().manual_seed(seed)
        self._drawing = torch.Generator().manual_seed(seed ^ 0x5EED)
        self._ahead: list[Tensor] = []  # draws of _ahead_of rows not handed out yet
        self._ahead_of = (0, 0)  # (rows stored, rows a draw) that they were drawn for
        self._used: list[Tensor] = []  # draws not yet counted in the uses column

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        per_class = "" if self._per_class is None else f"per_class={self._per_class}, "
        return (
            f"{type(self).__name__}(max_size={self.max_size}, "
            f"admission={self.admission!r}, {per_class}sampling={self.sampling!r}, "
            f"stored={len(self)}, seen={self.seen})"
        )

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
    ) -> dict[int, int]:
        """:meth:`add` for inner loops: slot → position of the rows that were kept."""
        n = len(y)
        batch: dict[str, Rows] = {"x": x, "y": y}
        if task is not None:
            batch["task"] = task
        if columns:
            _check_columns(columns)
            batch.update(columns)
        lengths = {name: count(column) for name, column in batch.items()}
        if set(lengths.values()) != {n}:
            raise ValueError(
                f"a batch needs one number of rows, got {lengths}: give every column "
                "one row for each target"
            )
        self.table.check(batch, without=_FACTS)
        slots = self._admit(n, y, task)
        if slots:
            position = index_tensor(list(slots.values()))
            rows = {name: take(column, position) for name, column in batch.items()}
            self._store(slots, rows, position, first=self.seen - n)
        return slots

    def _admit(self, n: int, y: Tensor | None, task: Tensor | None) -> dict[int, int]:
        """Decide on the next ``n`` rows; labels are read by admissions by class only."""
        groups: Sequence[Hashable] = range(n)
        if self._policy.needs_groups:
            assert y is not None
            _check_labels(f"admission {self.admission!r}", y=y)
            groups = y.tolist()
            if task is not None:
                _check_labels(f"admission {self.admission!r}", task=task)
                groups = list(zip(task.tolist(), groups, strict=True))
            if self.grows and self._per_class is not None:
                self._grow(self._per_class * self._policy.classes_with(groups))
            self._discard(self._policy.surplus(groups, self.max_size))
        slots = self._policy.admit(
            groups, len(self.table), self.max_size, self._admitting
        )
        self.seen += n
        return slots

    def _grow(self, size: int) -> None:
        if size > self.max_size:
            self.table.resize(size)
            self.max_size = size

    def _store(
        self, slots: dict[int, int], rows: dict[str, Rows], position: Tensor, first: int
    ) -> None:
        """Write rows that were at ``position`` of a batch after row number ``first``."""
        self._count_uses()
        rows["arrival"] = first + 1 + position
        rows["uses"] = torch.zeros(len(position), dtype=torch.int32)
        length = max(len(self.table), max(slots) + 1)
        self.table.put(index_tensor(list(slots)), rows, length)

    @property
    def transform_unknown(self) -> bool:
        """Whether rows were loaded that wait for their transform to be met again."""
        return self._loaded is not None

    def keeps_before(self, transform: BatchTransform | None) -> bool:
        """Whether to offer rows from before ``transform``; ``None``: it makes none.

        They are kept from before it as long as all rows have the same one. When
        another comes (each task of permuted MNIST has its own), those held are
        transformed once, and from then on rows are kept as the model takes them.

        :raises ValueError: for rows loaded from a state, which does not hold their
            transform, when this is another one.
        """
        if self._settled:
            return False
        if transform is self.transform and self._loaded is None:
            return True
        mark = fingerprint(transform)
        if self._loaded is not None and mark != self._loaded:
            raise ValueError(
                "the rows of the loaded memory were stored from before another "
                f"transform than {transform}: load it where that one is in use, or "
                "give RehearsalPlugin the transform that makes inputs of them"
            )
        if self._loaded is not None or not len(self):
            self.transform, self._loaded = transform, None
        if mark == fingerprint(self.transform):
            self.transform = transform  # alike, and from now on the same object
            return True
        if self.transform is not None:
            self.table.recast("x", self.transform(self.table.column("x")))
        self.transform, self._settled = None, True
        return False

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

    def resize(self, strategy: Any, new_size: int) -> None:
        """Change the capacity; rows that no longer fit leave as by :meth:`evict`.

        :param strategy: Avalanche's trainer, not used.
        :raises ValueError: for a size below 1, or below the number of classes for an
            admission by class.
        """
        _check_size(new_size)
        self._discard(self._policy.surplus([], new_size))
        if len(self) > new_size:
            self.evict(len(self) - new_size)
        self.table.resize(new_size)
        self.max_size = new_size

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
        _check_sampling(strategy or self.sampling)
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
        if n >= stored:
            index = torch.arange(stored)
        else:
            if self._ahead_of != (stored, n) or not self._ahead:
                draws = _DRAWS_AHEAD if stored == self.max_size else 1
                block = uniform(stored, n, self._drawing, draws)
                self._ahead = list(block.unbind())
                self._ahead.reverse()
                self._ahead_of = (stored, n)
            index = self._ahead.pop()
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
        """How often each row was sampled, shape ``(len(buffer),)``."""
        self._count_uses()
        return self._fact("uses")

    @property
    def ages(self) -> Tensor:
        """Rows offered since each row was, shape ``(len(buffer),)``."""
        return self.seen - self._fact("arrival")

    def class_counts(self) -> dict[Any, int]:
        """Rows stored of each class: by label, or by ``(task, label)`` where task
        labels are stored.

        :raises ValueError: for targets that are no class labels.
        """
        if not len(self):
            return {}
        y = self.table.column("y")
        _check_labels("class_counts()", y=y)
        if "task" not in self.table.columns:
            classes, counts = torch.unique(y, return_counts=True)
            return dict(zip(classes.tolist(), counts.tolist(), strict=True))
        task = self.table.column("task")
        _check_labels("class_counts()", task=task)
        pairs = torch.stack((task.long(), y.long()), 1)
        classes, counts = torch.unique(pairs, dim=0, return_counts=True)
        return dict(zip(map(tuple, classes.tolist()), counts.tolist(), strict=True))

    def _fact(self, name: str) -> Tensor:
        if not len(self.table):
            return torch.zeros(0, dtype=torch.long)
        facts: Tensor = self.table.column(name).clone()
        return facts

    # As a storage policy of Avalanche

    @property
    def buffer(self) -> AvalancheDataset:
        """The rows as a dataset of ``[x, y]``, with further items of the experiences
        that they came from, and ``task`` as the last, where stored."""
        if self.transform_unknown and self.transform is None:
            raise ValueError(
                "the rows were loaded from a state, which does not hold the transform "
                "that makes the model's input of them: set memory.transform to it"
            )
        return stored_dataset(self.table, self.transform, self._tensor_targets)

    def post_adapt(self, agent: Any, exp: Any) -> None:
        """Offer every row of an experience, in the order of its dataset.

        Only rows that are kept are read, and before their transforms where those are
        known (see :class:`~avalanche_ext.storage.resident.RowSource`).
        """
        source = row_source(exp.dataset.train())
        raw = self.keeps_before(source.transform)
        # What does not fit is refused before anything is decided.
        tasks = has_task_items(exp.dataset)
        first = self._read(source, torch.tensor([0]), raw, tasks)
        if tasks:
            check_task_item(list(first.values()))
        self.table.check(first, without=_FACTS)
        by_class = self._policy.needs_groups
        slots = self._admit(
            len(source),
            source.targets if by_class else None,
            source.tasks if by_class else None,
        )
        if slots:
            position = index_tensor(list(slots.values()))
            rows = self._read(source, position, raw, tasks)
            self._store(slots, rows, position, first=self.seen - len(source))
            self._tensor_targets = source.tensor_targets

    @staticmethod
    def _read(
        source: RowSource | ItemSource, position: Tensor, raw: bool, tasks: bool
    ) -> dict[str, Rows]:
        items = source.read(position)
        rows = dict(zip(item_names(len(items), tasks), items, strict=True))
        if not raw and source.transform is not None:
            rows["x"] = source.transform(rows["x"])
        return rows

    def update(self, strategy: Any, **kwargs: Any) -> None:
        """:meth:`post_adapt` with the strategy's experience."""
        self.post_adapt(strategy, strategy.experience)

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that a loaded memory goes on bit for bit."""
        self._count_uses()
        return {
            "max_size": self.max_size,
            "admission": self.admission,
            "seen": self.seen,
            "table": self.table.state_dict(),
            "policy": self._policy.state_dict(),
            "admitting": self._admitting.get_state(),
            "drawing": self._drawing.get_state(),
            "ahead": torch.stack(self._ahead) if self._ahead else torch.zeros(0, 0),
            "ahead_of": list(self._ahead_of),
            "settled": self._settled,
            "before": self._loaded or fingerprint(self.transform),
            "per_class": self._per_class,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict`` of a memory with the same admission.

        :raises ValueError: for the state of another admission.
        """
        if state["admission"] != self.admission:
            raise ValueError(
                f"the state is of a memory with admission {state['admission']!r}, "
                f"this one has {self.admission!r}: make it with the same admission"
            )
        if state["per_class"] != self._per_class:
            raise ValueError(
                f"the state is of a memory with per_class={state['per_class']}, this one "
                f"has {self._per_class}: make it with the same"
            )
        self.max_size = state["max_size"]
        self.seen = state["seen"]
        self.table.load_state_dict(state["table"])
        self._policy.load_state_dict(state["policy"])
        self._admitting.set_state(state["admitting"])
        self._drawing.set_state(state["drawing"])
        self._ahead = list(state["ahead"].unbind()) if len(state["ahead"]) else []
        self._ahead_of = tuple(state["ahead_of"])
        self._used = []
        self._settled = state["settled"]
        self.transform, self._loaded = None, state["before"]


def _check_size(max_size: int) -> None:
    if not isinstance(max_size, int) or max_size < 1:
        raise ValueError(
            f"max_size must be a whole number of rows, at least 1, got {max_size!r}"
        )


def _check_labels(reader: str, **columns: Tensor) -> None:
    for name, labels in columns.items():
        if labels.ndim != 1 or labels.is_floating_point():
            raise ValueError(
                f"{reader} reads classes from {name!r}, one whole number a row, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}: give class indices "
                "(of one-hot targets y.argmax(1)); admission 'reservoir' takes any targets"
            )


def _check_columns(columns: Mapping[str, Rows]) -> None:
    reserved = {"x", "y", "task", *_FACTS} & set(columns)
    if reserved:
        raise ValueError(
            f"the columns {sorted(reserved)} are the memory's own: name yours otherwise"
        )


def _check_sampling(name: str) -> None:
    if name not in SAMPLINGS:
        raise ValueError(f"unknown sampling {name!r}: choose one of {SAMPLINGS}")
