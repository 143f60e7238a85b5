"""avalanche_ext/storage/items.py: which item of a minibatch is which."""

import pytest
import torch
from avalanche.benchmarks.utils import DataAttribute, make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from torch.utils.data import TensorDataset

from avalanche_ext.storage.items import check_task_item, has_task_items, item_names


@pytest.mark.parametrize(
    ("items", "without", "with_tasks"),
    [
        (1, ("x",), ("x",)),
        (2, ("x", "y"), ("x", "y")),
        (3, ("x", "y", "item2"), ("x", "y", "task")),
        (
            5,
            ("x", "y", "item2", "item3", "item4"),
            ("x", "y", "item2", "item3", "task"),
        ),
    ],
)
def test_names(items, without, with_tasks):
    assert item_names(items, tasks=False) == without
    assert item_names(items, tasks=True) == with_tasks


@pytest.mark.parametrize(
    ("attribute", "found"),
    [
        (None, False),
        (TaskLabels([0, 0, 1]), True),
        (DataAttribute([0, 0, 1], "targets_task_labels", use_in_getitem=True), True),
        (DataAttribute([0, 0, 1], "targets_task_labels"), False),
        (DataAttribute([0, 0, 1], "weight", use_in_getitem=True), False),
    ],
)
def test_the_items_of_the_data_set_say_so(attribute, found):
    dataset = make_avalanche_dataset(
        TensorDataset(torch.zeros(3, 1), torch.arange(3)),
        data_attributes=[] if attribute is None else [attribute],
    )
    assert has_task_items(dataset) == found
    assert has_task_items(dataset.subset([0, 2])) == found
    assert not has_task_items(None)


def test_what_is_no_task_label():
    x, y = torch.zeros(3, 1), torch.arange(3)
    for batch in ([x, y], [x, y, y], [x, y, x, y]):
        check_task_item(batch)
    for task in (y.float(), x, y[:2], y[:, None], {"a": y}):
        with pytest.raises(
            ValueError, match=r"last item.*got.*use_in_getitem"
        ) as error:
            check_task_item([x, y, task])
        assert "\n" not in str(error.value)
