"""avalanche_ext/storage/batches.py: batch for batch what Avalanche's loaders give."""

import pytest
import torch
from avalanche.benchmarks.utils import DataAttribute, make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.benchmarks.utils.data_loader import (
    GroupBalancedDataLoader,
    ReplayDataLoader,
    SingleDatasetDataLoader,
    TaskBalancedDataLoader,
)
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from avalanche_ext.storage import batches
from avalanche_ext.storage.batches import IndexOrder, ResidentBatch, ResidentLoader
from avalanche_ext.storage.leaf import NotResident
from avalanche_ext.storage.resident import RowSource


def dataset(n=23, tasks=(0,), first=0):
    x = torch.arange(first, first + n, dtype=torch.float32).view(n, 1)
    y = torch.arange(n) % 4
    labels = [tasks[i * len(tasks) // n] for i in range(n)]
    return make_avalanche_dataset(
        TensorDataset(x, y),
        data_attributes=[DataAttribute(y.tolist(), "targets"), TaskLabels(labels)],
    )


LOADERS = {
    "shuffled": lambda: DataLoader(dataset(), batch_size=5, shuffle=True),
    "ascending": lambda: DataLoader(dataset(), batch_size=5),
    "drop last": lambda: DataLoader(
        dataset(), batch_size=5, shuffle=True, drop_last=True
    ),
    "ascending, drop last": lambda: DataLoader(dataset(), batch_size=5, drop_last=True),
    "one batch": lambda: DataLoader(dataset(), batch_size=50, shuffle=True),
    "own generator": lambda: DataLoader(
        dataset(),
        batch_size=5,
        shuffle=True,
        generator=torch.Generator().manual_seed(4),
    ),
    "weighted": lambda: DataLoader(
        dataset(), batch_size=5, sampler=WeightedRandomSampler(torch.rand(23), 11)
    ),
    "more rows than there are": lambda: DataLoader(
        dataset(), batch_size=5, sampler=RandomSampler(range(23), num_samples=30)
    ),
    "with replacement": lambda: DataLoader(
        dataset(), batch_size=5, sampler=RandomSampler(range(23), replacement=True)
    ),
    "single": lambda: SingleDatasetDataLoader(dataset(), batch_size=5),
    "one task": lambda: TaskBalancedDataLoader(dataset(), batch_size=5, shuffle=True),
    "three tasks": lambda: TaskBalancedDataLoader(
        dataset(tasks=(0, 1, 1, 1, 2)),
        batch_size=6,
        shuffle=True,
        oversample_small_groups=True,
    ),
    "three tasks, not oversampled": lambda: TaskBalancedDataLoader(
        dataset(tasks=(0, 1, 1, 1, 2)), batch_size=6, shuffle=True
    ),
    "groups": lambda: GroupBalancedDataLoader(
        [dataset(7), dataset(4, first=50)], batch_size=4, shuffle=True
    ),
    "upstream replay": lambda: ReplayDataLoader(
        dataset(),
        dataset(6, first=50),
        oversample_small_tasks=True,
        batch_size=5,
        batch_size_mem=4,
        shuffle=True,
    ),
}


def resident(loader):
    order = IndexOrder(loader)
    whole = order.datasets[0]
    for further in order.datasets[1:]:
        whole = whole.concat(further)
    return ResidentLoader(RowSource(whole), order, torch.device("cpu"))


@pytest.mark.parametrize("block_bytes", [1, 40, 2**18])
@pytest.mark.parametrize("name", LOADERS)
def test_same_batches_and_same_random_numbers(name, block_bytes, monkeypatch):
    monkeypatch.setattr(batches, "_BLOCK_BYTES", block_bytes)

    def epochs(wrap):
        torch.manual_seed(5)
        loader = wrap(LOADERS[name]())
        seen = []
        for _ in range(2):
            for batch in loader:
                seen.append([column.clone() for column in batch])
                torch.rand(1)  # training draws between batches
        return len(loader), seen, torch.rand(1)

    length, expected, after = epochs(lambda loader: loader)
    resident_length, batches_seen, resident_after = epochs(resident)
    assert resident_length == length
    assert resident_after == after
    assert len(batches_seen) == len(expected)
    for one, other in zip(batches_seen, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


def test_a_batch_may_be_written_to():
    data = dataset()
    loader = resident(DataLoader(data, batch_size=50))
    (batch,) = loader
    assert isinstance(batch, ResidentBatch)
    batch[0].zero_()
    assert data[5][0] == 5


def test_unknown_loaders_are_refused():
    with pytest.raises(NotResident, match="its loader is a list"):
        IndexOrder([])
    with pytest.raises(NotResident, match="its loader is a DataLoader"):
        IndexOrder(DataLoader(dataset(), batch_size=None))
