"""avalanche_ext/storage/stored_dataset.py: the table's rows as items."""

import pytest
import torch
from torch.utils.data import default_collate

from avalanche_ext import ExemplarTable, ScaleToUnit
from avalanche_ext.storage.stored_dataset import stored_dataset


def table(task=True, nested=False):
    x = torch.arange(12, dtype=torch.uint8).view(3, 4)
    rows = {"x": {"a": x, "b": {"c": x.float()}} if nested else x, "y": torch.arange(3)}
    if task:
        rows["task"] = torch.tensor([5, 6, 7])
    made = ExemplarTable(4)
    made.write(torch.arange(3), rows)
    return made


@pytest.mark.parametrize("task", [True, False])
@pytest.mark.parametrize("tensor_targets", [True, False])
def test_items(task, tensor_targets):
    dataset = stored_dataset(table(task), ScaleToUnit(2), tensor_targets)
    assert len(dataset) == 3
    assert list(dataset.targets) == [0, 1, 2]
    x, y, *rest = dataset[2]
    assert torch.equal(x, torch.tensor([4.0, 4.5, 5.0, 5.5]))
    assert isinstance(y, torch.Tensor if tensor_targets else int)
    assert y == 2
    assert list(rest) == ([7] if task else [])


def test_nested_items():
    dataset = stored_dataset(table(nested=True), None, True)
    x = default_collate([dataset[i] for i in range(3)])[0]
    assert torch.equal(x["a"].float(), x["b"]["c"])


def test_it_is_a_copy_and_may_be_empty():
    held = table()
    dataset = stored_dataset(held, None, True)
    held.write(
        torch.tensor([0]), {k: held.column(k)[1:2].clone() for k in held.columns}
    )
    assert dataset[0][1] == 0
    assert len(stored_dataset(ExemplarTable(3), None, True)) == 0
