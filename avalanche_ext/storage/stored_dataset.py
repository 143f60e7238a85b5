"""The rows of an exemplar table as a data set of Avalanche."""

from typing import Any

from avalanche.benchmarks.utils import (
    AvalancheDataset,
    DataAttribute,
    TransformGroups,
    make_avalanche_dataset,
)
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from torch.utils.data import Dataset

from avalanche_ext.storage.rows import Rows, each
from avalanche_ext.storage.table import ExemplarTable
from avalanche_ext.storage.transforms import BatchTransform, OnOne


class _StoredRows(Dataset[Any]):
    """Items ``(x, y, …)`` of copied rows.

    :param further: columns of the items after ``y``.
    :param tensor_targets: whether items give ``y`` as a tensor or as a number: items
        of one batch must agree.
    """

    def __init__(
        self,
        x: Rows,
        y: Any,
        further: list[Rows],
        tensor_targets: bool,
    ) -> None:
        self.x, self.y, self.further = x, y, further
        self.tensor_targets = tensor_targets

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        x, *further = (
            each(lambda rows: rows[index], column) for column in (self.x, *self.further)
        )
        y = self.y[index]
        return x, y if self.tensor_targets else y.item(), *further


def stored_dataset(
    table: ExemplarTable, transform: BatchTransform | None, tensor_targets: bool
) -> AvalancheDataset:
    """A copy of the table's rows: items ``[x, y]``, or ``[x, y, …, task]`` as stored.

    :param transform: makes the model's input of a row.
    """
    if not len(table):
        return AvalancheDataset([])
    rows: dict[str, Any] = table.state_dict()["columns"]
    y = rows["y"].cpu()
    attributes = [DataAttribute(y.tolist(), "targets")]
    if "task" in rows:
        attributes.append(TaskLabels(rows["task"].tolist()))
    further = [f"item{i}" for i in range(2, len(rows)) if f"item{i}" in rows]
    x, *others = (each(lambda c: c.cpu(), rows[name]) for name in ("x", *further))
    groups = None
    if transform is not None:
        one = (OnOne(transform), None)
        groups = TransformGroups({"train": one, "eval": one})
    return make_avalanche_dataset(
        _StoredRows(x, y, others, tensor_targets),
        data_attributes=attributes,
        transform_groups=groups,
    )
