"""The rows of one leaf data set, read once and kept as columns."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from avalanche_ext.storage.rows import Rows, each, leaves
from avalanche_ext.storage.transforms import (
    Chain,
    image_mode,
    is_deterministic,
    to_row,
)

Steps = tuple[Callable[[Any], Any], ...]


class NotResident(Exception):
    """Why a data set cannot be held as tensors."""


class LeafStore:
    """The rows of one leaf data set as columns, read when they are first needed.

    A ``TensorDataset`` is its own store. The rows of any other leaf are taken to be a
    function of their index. The leaf is not kept alive.

    :param leaf: a data set that gives ``(x, y, …)``.
    :param once: steps on ``x`` before it is kept.
    :param targets: steps on ``y``.
    """

    def __init__(self, leaf: Any, once: Steps, targets: Steps) -> None:
        self._leaf = _weak(leaf)
        self._once, self._targets = Chain(once), Chain(targets)
        self.columns: list[Rows] = []
        self._present: Tensor | None = torch.zeros(len(leaf), dtype=torch.bool)
        if type(leaf) is TensorDataset and not once and not targets:
            self.columns, self._present = list(leaf.tensors), None

    @property
    def leaf(self) -> Any:
        """The data set."""
        return self._leaf()

    def serves(self, leaf: Any, once: Steps, targets: Steps) -> bool:
        """Whether this holds the rows of ``leaf`` after these very steps."""
        return (
            leaf is self.leaf
            and _same_steps(once, self._once.steps)
            and _same_steps(targets, self._targets.steps)
        )

    def need(self, index: Tensor | None) -> None:
        """Read the rows at ``index`` (``None``: all) that are not held yet."""
        if self._present is None:
            return
        if index is None:
            index = torch.arange(len(self._present))
        missing = torch.unique(index[~self._present[index]])
        if not len(missing):
            return
        for block in missing.split(1024):
            self._put(block, self._collate([self.leaf[i] for i in block.tolist()]))
        self._present[missing] = True

    def _collate(self, rows: list[Sequence[Any]]) -> list[Rows]:
        columns = [list(column) for column in zip(*rows, strict=True)]
        columns[0] = [self._once(x) for x in columns[0]]
        if len(columns) > 1:
            columns[1] = [self._targets(y) for y in columns[1]]
        if image_mode(columns[0][0]) is not None:
            columns[0] = [to_row(image) for image in columns[0]]
        try:
            made = [default_collate(column) for column in columns]
        except (RuntimeError, TypeError) as error:
            raise NotResident(f"its rows do not stack to tensors ({error})") from None
        if not all(map(_tensors_only, made)):
            raise NotResident("its rows hold more than tensors, numbers and mappings")
        return made

    def _put(self, index: Tensor, rows: list[Rows]) -> None:
        n = len(self.leaf)
        if not self.columns:
            self.columns = [
                each(lambda t: t.new_empty(n, *t.shape[1:]), c) for c in rows
            ]
        for column, values in zip(self.columns, rows, strict=True):
            held = dict(leaves(column))
            for name, value in leaves(values):
                if held[name].shape[1:] != value.shape[1:]:
                    raise NotResident(
                        f"its rows differ in shape: {tuple(held[name].shape[1:])} "
                        f"and {tuple(value.shape[1:])}"
                    )
                held[name][index] = value

    def missing_bytes(self, index: Tensor | None) -> int:
        """Bytes that :meth:`need` would read."""
        if self._present is None:
            return 0
        here = self._present if index is None else self._present[index]
        return int((~here).sum()) * self.row_bytes

    @property
    def bytes_held(self) -> int:
        """Bytes of the rows read so far; a ``TensorDataset`` holds its own."""
        return 0 if self._present is None else int(self._present.sum()) * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        columns = self.columns or self._collate([self.leaf[0]])
        return sum(
            t.element_size() * t[:1].numel() for c in columns for _, t in leaves(c)
        )


def refuse_random(leaf: Any) -> None:
    """Refuse a data set whose own transforms may differ from one reading to the next.

    :raises NotResident: naming the transform.
    """
    for name in ("transform", "transforms"):
        inner = getattr(leaf, name, None)
        steps = (
            [getattr(inner, "transform", inner)] if name == "transforms" else [inner]
        )
        if not all(is_deterministic(step) for step in steps if step is not None):
            raise NotResident(
                f"{type(leaf).__name__} applies {inner} itself, which may be random: "
                "give it to the benchmark as a transform instead"
            )
    for inner in (getattr(leaf, "dataset", None), *_parts(leaf)):
        if isinstance(inner, Dataset):  # of a Subset or a ConcatDataset
            refuse_random(inner)


def _parts(leaf: Any) -> Sequence[Any]:
    parts = getattr(leaf, "datasets", ())
    return parts if isinstance(parts, (list, tuple)) else ()


def _tensors_only(column: Any) -> bool:
    if isinstance(column, Mapping):
        names = column.keys()  # a TensorDict itself iterates over rows
        return all(_tensors_only(column[name]) for name in names)
    return isinstance(column, Tensor)


def _same_steps(one: Steps, other: Steps) -> bool:
    return [id(step) for step in one] == [id(step) for step in other]


def _weak(leaf: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(leaf)
    except TypeError:  # a list, for one
        return partial(_itself, leaf)


def _itself(leaf: Any) -> Any:
    return leaf
