"""avalanche_ext/plugins/experience_rows.py: rows as a model sees them in evaluation."""

import pytest
import torch
from avalanche.benchmarks.utils import (
    DataAttribute,
    TransformGroups,
    make_avalanche_dataset,
)
from torch.utils.data import TensorDataset

from avalanche_ext.plugins.experience_rows import (
    StepRows,
    batch_of,
    evaluation_batches,
)


def rows_of(batches):
    return [
        torch.cat(part) for part in zip(*batches, strict=True) if part[0] is not None
    ]


def batches(dataset, most=None, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return list(evaluation_batches(dataset, most, draws, torch.device("cpu")))


def flipped(x):
    return -x.float()


def times_ten(x):
    return 10 * x.float()


def dataset(n=600):
    x, y = torch.arange(n).view(n, 1), torch.arange(n) % 3
    return make_avalanche_dataset(
        TensorDataset(x, y),
        data_attributes=[DataAttribute(y.tolist(), "targets")],
        transform_groups=TransformGroups({"train": flipped, "eval": times_ten}),
    )


def test_all_rows_in_order_under_the_evaluation_transform():
    data = dataset().train()
    found = batches(data)
    assert max(len(x) for x, *_ in found) <= 256
    x, y = rows_of(found)
    assert torch.equal(x[:, 0], 10.0 * torch.arange(600))
    assert torch.equal(y, torch.arange(600) % 3)
    assert data[1][0] == -1  # the experience's own data are as they were


def test_some_rows_without_replacement():
    (x, _), (again, _), (other, _) = (
        rows_of(batches(dataset(), 20, seed)) for seed in (0, 0, 1)
    )
    assert len(x.unique()) == 20
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    assert len(rows_of(batches(dataset(10), 20))[0]) == 10


def test_task_labels(class_stream):
    experience = class_stream(experiences=2, tasks=True).train_stream[1]
    x, y, task = rows_of(batches(experience.dataset))
    assert len(x) == len(y) == 40
    assert (task == 1).all()


def test_items_of_a_minibatch():
    x, y, more, task = torch.rand(2, 3), torch.zeros(2), torch.ones(2), torch.arange(2)
    assert batch_of([x], tasks=False) == (x, None, None)
    assert batch_of([x, y, more], tasks=False)[2] is None
    assert batch_of([x, y, more, task], tasks=True)[2] is task
    with pytest.raises(ValueError, match="one whole number a row"):
        batch_of([x, y, more], tasks=True)


@pytest.mark.parametrize(
    ("most", "steps"), [(None, range(10)), (8, [4, 9]), (9, [3, 6, 9]), (1, [9])]
)
def test_minibatches_are_spread_over_the_steps(most, steps):
    rows = StepRows(10, most)
    for step in range(10):
        rows.offer(step, [torch.full((4, 1), step), torch.zeros(4)])
    assert [int(batch[0][0]) for batch in rows.batches] == list(steps)
