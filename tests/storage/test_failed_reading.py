"""avalanche_ext/storage/exemplars.py: an experience of which a row cannot be read."""

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import DataAttribute, make_avalanche_dataset
from torch.utils.data import Dataset
from torch.utils.data.dataloader import default_collate

from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.admission import ADMISSIONS


class Rows(Dataset):
    """Numbers, a hundred of each class; those from row ``bad`` on cannot be read."""

    def __init__(self, first, n, bad=None):
        self.numbers, self.bad, self.read = range(first, first + n), bad, []

    def __len__(self):
        return len(self.numbers)

    def label(self, i):
        return self.numbers[i] // 100

    def __getitem__(self, i):
        if self.bad is not None and i >= self.bad:
            raise OSError("unreadable")
        self.read.append(i)
        return torch.tensor([float(self.numbers[i])]), self.label(i)


class Worth:
    """A row's number, modulo 7."""

    name = "worth"

    def score(self, rows, context):
        return rows["x"][:, 0] % 7


def experience(data, resident=True):
    labels = DataAttribute([data.label(i) for i in range(len(data))], "targets")
    collate = None if resident else collated
    made = make_avalanche_dataset(data, data_attributes=[labels], collate_fn=collate)
    return benchmark_from_datasets(train=[made]).train_stream[0]


def collated(rows):
    return default_collate(rows)


def memory_of(admission):
    options = {"criteria": [Worth()]} if admission == "score" else {}
    return MultiStrategyBuffer(30, admission=admission, seed=0, **options)


def assert_in_step(memory):
    """The policy counts each slot to the class of the row that is there."""
    labels = memory.table.column("y").tolist() if len(memory) else []
    if labels:
        assert labels == (memory.table.column("x")[:, 0] // 100).long().tolist()
    assert len(memory) <= memory.max_size
    slots = memory._policy.state_dict().get("slots")
    if slots is not None:
        held = {label: sorted(of) for label, of in slots.items() if len(of)}
        expected = {}
        for slot, label in enumerate(labels):
            expected.setdefault(label, []).append(slot)
        assert held == expected


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("stored", [0, 12, 150])
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_rows_and_policy_stay_in_step(admission, stored, resident):
    memory = memory_of(admission)
    if stored:
        memory.post_adapt(None, experience(Rows(0, stored), resident))
    with pytest.raises(OSError, match="unreadable"):
        memory.post_adapt(None, experience(Rows(400, 400, bad=1), resident))
    assert_in_step(memory)
    memory.post_adapt(None, experience(Rows(800, 200), resident))
    assert_in_step(memory)
    memory.evict(5)
    assert_in_step(memory)


@pytest.mark.parametrize("admission", ["herding", "score"])
def test_nothing_has_changed_where_rows_are_compared(admission):
    memory, other = memory_of(admission), memory_of(admission)
    for one in (memory, other):
        one.post_adapt(None, experience(Rows(0, 150)))
    with pytest.raises(OSError, match="unreadable"):
        memory.post_adapt(None, experience(Rows(400, 400, bad=390)))
    assert memory.seen == other.seen == 150
    for one in (memory, other):
        one.post_adapt(None, experience(Rows(400, 400)))
    for name in ("x", "y", "arrival"):
        assert memory.table.column(name).equal(other.table.column(name))


@pytest.mark.parametrize("admission", ["herding", "score"])
def test_batches_before_the_error_stay_where_data_cannot_be_held(admission):
    memory = memory_of(admission)
    with pytest.raises(OSError, match="unreadable"):
        memory.post_adapt(None, experience(Rows(0, 400, bad=390), resident=False))
    assert memory.seen == 256
    assert memory.ages.max() <= 256


@pytest.mark.parametrize("admission", ["reservoir", "ring", "class_balanced"])
def test_rows_stored_stay_unless_another_class_has_their_slot(admission):
    memory = memory_of(admission)
    memory.post_adapt(None, experience(Rows(0, 100)))
    before = memory.table.column("x").clone()
    with pytest.raises(OSError, match="unreadable"):
        memory.post_adapt(None, experience(Rows(40, 60, bad=1), resident=False))
    assert memory.table.column("x").equal(before)
    assert_in_step(memory)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("admission", ["herding", "score"])
def test_each_row_that_is_compared_is_read_once(admission, resident):
    data = Rows(0, 400)
    made = experience(data, resident)
    data.read.clear()
    memory_of(admission).post_adapt(None, made)
    reads = [data.read.count(i) for i in range(1, 400)]  # the first is looked at before
    assert set(reads) == {1}
