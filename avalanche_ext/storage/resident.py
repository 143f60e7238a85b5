"""Rows of a data set as tensors: read once, gathered by index ever after.

An Avalanche data set is a tree of subsets and concatenations over leaf data sets,
with transforms on the way. :class:`RowSource` follows the tree once, so that a batch
is one gather from the leaf's tensors and one batched transform.
"""

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.data import _FlatDataWithTransform
from avalanche.benchmarks.utils.flat_data import ConstantSequence, FlatData
from torch import Tensor
from torch.utils.data import default_collate

from avalanche_ext.storage.leaf import LeafStore, NotResident, Steps, refuse_random
from avalanche_ext.storage.rows import Rows, each, index_tensor, like, take
from avalanche_ext.storage.transforms import (
    BatchTransform,
    PerSample,
    Pipeline,
    image_mode,
    plan,
)

Columns: TypeAlias = tuple[list[Rows], Tensor | None, list[Tensor]]


class LeafStores:
    """Stores of the leaves that are alive, and the row sources of data met again.

    :param keep: how many row sources to remember.
    :param watch: whether to let go of a leaf's rows when nobody else holds the leaf.
    """

    def __init__(self, keep: int = 64, *, watch: bool = True) -> None:
        self._watch = watch
        self._stores: dict[Any, tuple[Any, LeafStore, Pipeline]] = {}
        self._sources: OrderedDict[Any, RowSource] = OrderedDict()
        self._keep = keep

    def store(self, leaf: Any, x: Steps, y: Steps) -> tuple[LeafStore, Pipeline]:
        """The store of ``leaf`` under these steps, and what is left to do per batch."""
        key = (id(leaf), tuple(map(id, x)), tuple(map(id, y)))
        if key not in self._stores:
            refuse_random(leaf)  # before a row is read: reading may draw numbers
            sample = leaf[0][0]
            pipeline = plan(x, sample)
            if isinstance(pipeline.batch, PerSample) and not (
                isinstance(sample, Tensor) or image_mode(sample)
            ):
                raise NotResident(
                    f"its inputs are {type(sample).__name__} and its transforms may be "
                    "random: give images or tensors"
                )
            store = self._shared(leaf, pipeline.once, y)
            # The steps live as long as their ids are in the key, the key no longer
            # than the leaf.
            self._stores[key] = ((x, y), store, pipeline)
            if self._watch:
                with suppress(TypeError):  # a list has no weak references: it stays
                    weakref.finalize(leaf, self._stores.pop, key, None)
        _, store, pipeline = self._stores[key]
        return store, pipeline

    def _shared(self, leaf: Any, once: Steps, y: Steps) -> LeafStore:
        for _, store, _ in self._stores.values():
            if store.serves(leaf, once, y):
                return store
        return LeafStore(leaf, once, y)

    def source(self, dataset: AvalancheDataset, *, remember: bool) -> "RowSource":
        """The row source of ``dataset``.

        :param remember: whether it will be asked for again. A remembered source keeps
            its data set alive.
        """
        if not remember:
            return RowSource(dataset, self)
        key = _identity(dataset)
        if key not in self._sources:
            source = RowSource(dataset, self)
            if source.copies:
                return source
            self._sources[key] = source
            if len(self._sources) > self._keep:
                self._sources.popitem(last=False)
        self._sources.move_to_end(key)
        return self._sources[key]

    @property
    def sources(self) -> list["RowSource"]:
        """The row sources remembered."""
        return list(self._sources.values())

    @property
    def bytes_held(self) -> int:
        """Bytes of all rows that were read, on the host."""
        stores = {id(store): store for _, store, _ in self._stores.values()}
        return sum(store.bytes_held for store in stores.values())


class RowSource:
    """The rows of one data set: where they are and what makes a batch of them.

    Columns are those of the data set's items in order: ``x``, ``y``, what else the
    leaf gives, and the attributes that are appended to items (task labels).

    :param dataset: an Avalanche data set, in the transform group wanted.
    :param stores: where leaves are kept; a new one by default.
    :raises NotResident: when the data set cannot be held as tensors.
    """

    def __init__(
        self, dataset: AvalancheDataset, stores: LeafStores | None = None
    ) -> None:
        stores = stores or LeafStores(watch=False)
        if not isinstance(dataset, AvalancheDataset):
            raise NotResident(f"it is a {type(dataset).__name__}, not Avalanche's")
        self._dataset = dataset  # keeps the objects alive that identify it
        if dataset.collate_fn not in (None, default_collate):
            raise NotResident("it has a collate function of its own")
        flat = dataset._flat_data
        self._segments: list[tuple[LeafStore, Tensor | None]] = []
        pipelines = []
        group = flat._transform_groups.current_group
        for leaf, index, x, y in _segments(flat, None, group, (), ()):
            store, pipeline = stores.store(leaf, x, y)
            self._segments.append((store, index))
            pipelines.append(pipeline)
        if not pipelines:
            raise NotResident("it is empty")
        if any(pipeline.batch != pipelines[0].batch for pipeline in pipelines):
            raise NotResident("its parts have different transforms")
        self.transform: BatchTransform | None = pipelines[0].batch
        """What makes the model's input of raw ``x`` rows; ``None``: they are it."""
        self.repeatable = pipelines[0].repeatable
        """Whether the transform does the same each time."""
        self._attributes = [
            _attribute_column(attribute)
            for attribute in dataset._data_attributes.values()
            if attribute.use_in_getitem
        ]
        self._length = len(dataset)
        self._copy: tuple[torch.device, list[Rows], list[Tensor]] | None = None

    def __len__(self) -> int:
        return self._length

    @property
    def copies(self) -> bool:
        """Whether the rows lie in several leaves and must be copied together."""
        return len(self._segments) > 1

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self._segments[0][0].row_bytes

    @property
    def bytes_needed(self) -> int:
        """Bytes that :meth:`columns` has still to read or copy on the host."""
        missing = sum(store.missing_bytes(index) for store, index in self._segments)
        return missing + self.bytes * self.copies

    @property
    def targets(self) -> Tensor:
        """The target of each row."""
        attribute = getattr(self._dataset, "targets", None)
        if attribute is not None:
            return _attribute_column(attribute)
        targets = self.read(torch.arange(len(self)))[1]
        assert isinstance(targets, Tensor)
        return targets

    @property
    def tasks(self) -> Tensor | None:
        """The task label of each row, where items have one."""
        return _tasks(self._dataset)

    @property
    def tensor_targets(self) -> bool:
        """Whether items give their target as a tensor rather than a number."""
        return isinstance(self._segments[0][0].leaf[0][1], Tensor)

    def columns(self, device: torch.device | None = None) -> Columns:
        """All rows: the leaf's columns, the row of each position in them (``None``:
        the position itself), and the appended attributes by position.

        :param device: where they should be, the host by default. Elsewhere they are
            copies of the rows of this source alone, made once.
        """
        if device is None or device.type == "cpu":
            return self._on_host()
        if not self.is_on(device):
            leaf, index, own = self._on_host()
            if index is not None:
                leaf = [take(column, index) for column in leaf]
            self._copy = (
                device,
                [each(lambda t: t.to(device), column) for column in leaf],
                [column.to(device) for column in own],
            )
        assert self._copy is not None
        return self._copy[1], None, self._copy[2]

    def is_on(self, device: torch.device) -> bool:
        """Whether :meth:`columns` has copied the rows to ``device`` before."""
        return self._copy is not None and self._copy[0] == device

    def _on_host(self) -> Columns:
        if self.copies:
            return self.read(torch.arange(len(self))), None, []
        store, index = self._segments[0]
        store.need(index)
        return store.columns, index, self._attributes

    def need(self) -> None:
        """Read all rows that are not held yet."""
        for store, index in self._segments:
            store.need(index)

    def read(self, position: Tensor) -> list[Rows]:
        """Copies of the rows at ``position``, column by column."""
        parts, order, start = [], [], 0
        for store, index in self._segments:
            length = len(store.leaf) if index is None else len(index)
            here = ((position >= start) & (position < start + length)).nonzero()[:, 0]
            inside = position[here] - start
            rows = inside if index is None else index[inside]
            start += length
            if len(here):
                store.need(rows)
                parts.append([take(column, rows) for column in store.columns])
                order.append(here)
        made = [_stack(columns) for columns in zip(*parts, strict=True)]
        if len(parts) > 1:
            back = torch.cat(order).argsort()
            made = [take(column, back) for column in made]
        return made + [take(column, position) for column in self._attributes]


class ItemSource:
    """The rows of a data set that cannot be a :class:`RowSource`, item by item.

    :param dataset: an Avalanche data set, in the transform group wanted.
    """

    transform: BatchTransform | None = None

    def __init__(self, dataset: AvalancheDataset) -> None:
        self._dataset = dataset
        self.tensor_targets = isinstance(dataset[0][1], Tensor)

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def targets(self) -> Tensor:
        """The target of each row."""
        return _attribute_column(self._dataset.targets)

    @property
    def tasks(self) -> Tensor | None:
        """The task label of each row, where items have one."""
        return _tasks(self._dataset)

    def read(self, position: Tensor) -> list[Rows]:
        """The rows at ``position``, column by column."""
        items = [self._dataset[i] for i in position.tolist()]
        return [default_collate(list(column)) for column in zip(*items, strict=True)]


def row_source(dataset: AvalancheDataset) -> RowSource | ItemSource:
    """The rows of a data set, from before its transforms where that can be."""
    try:
        source = RowSource(dataset)
        source.read(torch.tensor([0]))
    except NotResident:
        return ItemSource(dataset)
    return source


def _tasks(dataset: AvalancheDataset) -> Tensor | None:
    attribute = getattr(dataset, "targets_task_labels", None)
    if attribute is None or not attribute.use_in_getitem:
        return None
    return _attribute_column(attribute)


def _segments(
    flat: Any, index: Tensor | None, group: str, x: Steps, y: Steps
) -> list[tuple[Any, Tensor | None, Steps, Steps]]:
    """Leaves in order with the rows wanted of each and the steps above them.

    :param index: rows of ``flat`` wanted, ascending through its parts.
    """
    while True:
        for groups in (flat._transform_groups, flat._frozen_transform_groups):
            above_x, above_y = _steps(groups, group)
            x, y = above_x + x, above_y + y
        own = flat._indices
        if own is not None:
            rows = index_tensor(_listed(own))
            index = rows if index is None else rows[index]
        if len(flat._datasets) != 1 or not isinstance(
            flat._datasets[0], _FlatDataWithTransform
        ):
            break
        flat = flat._datasets[0]  # a chain, as of a subset of a subset
    found: list[tuple[Any, Tensor | None, Steps, Steps]] = []
    start = 0
    owner = None
    if index is not None and len(flat._datasets) > 1:
        ends = torch.tensor(flat._cumulative_sizes)
        owner = torch.bucketize(index, ends, right=True)
        if (owner.diff() < 0).any():
            raise NotResident("its parts are interleaved")
    for number, part in enumerate(flat._datasets):
        inside = index
        if owner is not None and index is not None:
            inside = index[owner == number] - start
        start += len(part)
        if inside is not None and len(inside) == 0:
            continue
        if isinstance(part, _FlatDataWithTransform):
            found.extend(_segments(part, inside, group, x, y))
        else:
            found.append((part, inside, x, y))
    return found


def _steps(groups: Any, name: str) -> tuple[Steps, Steps]:
    transform = groups.transform_groups[name]
    if transform is None:
        return (), ()
    x, y = transform.flat_transforms(0), transform.flat_transforms(1)
    if {id(step) for step in x} & {id(step) for step in y}:
        raise NotResident("a transform takes input and target together")
    return tuple(s for s in x if s is not None), tuple(s for s in y if s is not None)


def _identity(dataset: AvalancheDataset) -> Any:
    flat = dataset._flat_data
    group = flat._transform_groups.current_group
    return (
        tuple(id(part) for part in flat._datasets),
        id(flat._indices),
        group,
        tuple(
            id(groups.transform_groups[group])
            for groups in (flat._transform_groups, flat._frozen_transform_groups)
        ),
        tuple(id(attribute) for attribute in dataset._data_attributes.values()),
    )


def _attribute_column(attribute: Any) -> Tensor:
    data = attribute.data
    if isinstance(data, ConstantSequence):
        return torch.full((len(data),), data[0])
    values: Sequence[Any] = data
    if isinstance(data, FlatData) and len(data._datasets) == 1:
        base = data._datasets[0]
        own = data._indices
        values = base if own is None else [base[i] for i in _listed(own)]
    try:
        column: Tensor = default_collate(list(values))
    except (RuntimeError, TypeError) as error:
        raise NotResident(f"its attribute {attribute.name} has no tensor") from error
    return column


def _listed(indices: Any) -> Any:
    if isinstance(indices, (list, Tensor)):
        return indices
    return [indices[i] for i in range(len(indices))]


def _stack(columns: Sequence[Rows]) -> Rows:
    if len(columns) == 1:
        return columns[0]
    first = columns[0]
    try:
        if isinstance(first, Tensor):
            return torch.cat(columns)  # type: ignore[arg-type]
        names = list(first.keys())
        return like(first, {k: _stack([c[k] for c in columns]) for k in names})  # type: ignore[index]
    except RuntimeError as error:
        raise NotResident(f"its parts differ in form ({error})") from None
