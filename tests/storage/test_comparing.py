"""avalanche_ext/storage/comparing.py: of large memories, some rows are compared."""

from collections import Counter

import pytest
import torch
from memories import through_disk

from avalanche_ext.storage import MultiStrategyBuffer, comparing


class Worth:
    """A row's own first number."""

    name = "worth"

    def score(self, rows, context):
        return rows["x"][:, 0]


def memory_of(size, balance, **options):
    return MultiStrategyBuffer(
        size,
        criteria=[Worth()],
        admission="score",
        balance=balance,
        seed=0,
        **options,
    )


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(comparing, "MOST", 8)


@pytest.mark.parametrize("balance", ["class", "none"])
@pytest.mark.parametrize("w_use", [0.0, 0.5])
def test_the_lowest_of_those_compared_leave(few, balance, w_use, monkeypatch):
    memory = memory_of(30, balance, w_use=w_use)
    x, y = torch.rand(200, 2), torch.randint(3, (200,))
    memory.add(x[:30], y[:30], columns={"number": torch.arange(30)})
    admit, told = memory._policy.admit, []

    def spy(groups, stored, size, draw, compared):
        told.append(compared)
        return admit(groups, stored, size, draw, compared)

    monkeypatch.setattr(memory._policy, "admit", spy)
    for start in range(30, 200, 5):
        memory.sample(3)
        before = memory.table.column("number").clone()
        new = torch.arange(start, start + 5)
        memory.add(x[new], y[new], columns={"number": new})
        after = memory.table.column("number")
        compared = told[-1]
        assert 1 <= len(compared.slots) <= 8
        assert len(compared.slots.unique()) == len(compared.slots)
        rows = torch.cat((before[compared.slots], new)).tolist()
        value = dict(zip(rows, compared.values.tolist(), strict=True))
        if not w_use:  # normalised over those compared
            raw = x[rows, 0].double()
            scaled = (raw - raw.min()) / (raw.max() - raw.min())
            assert compared.values.tolist() == pytest.approx(scaled.tolist())
        gone = ({*before.tolist(), *new.tolist()}) - set(after.tolist())
        assert len(gone) == 5
        assert gone <= set(rows)
        for label, lost in Counter(y[list(gone)].tolist()).items():
            own = [r for r in rows if balance == "none" or y[r] == label]
            own.sort(key=value.__getitem__)
            lost = 5 if balance == "none" else lost
            assert gone & set(own) == set(own[:lost])


def test_a_class_loses_even_what_is_not_compared(few):
    memory = memory_of(60, "class")
    memory.add(torch.rand(60, 2), torch.zeros(60, dtype=torch.long))
    memory.add(torch.rand(40, 2), torch.ones(40, dtype=torch.long))
    assert memory.class_counts() == {0: 30, 1: 30}
    assert len(memory) == 60


@pytest.mark.parametrize("batch", [1, 4])
def test_rows_of_classes_that_lose_one_are_compared(few, batch):
    """Not of all classes: however many there are, the best of each are kept."""
    memory = memory_of(60, "class")
    x, y = torch.rand(1200, 1), torch.arange(1200) % 30
    for new in torch.arange(1200).split(batch):
        memory.add(x[new], y[new])
    for label in range(30):
        held = memory.table.column("x")[memory.table.column("y") == label, 0]
        best = x[y == label, 0].topk(2).values
        assert held.sort(descending=True).values.tolist() == best.tolist()


def test_classes_of_any_size_and_batches_larger_than_the_memory(few):
    """Where none of a class that loses rows is compared, or more arrive than are stored."""
    memory = memory_of(50, "class")
    for n in (50, 3, 45, 70, 120, 1):
        y = (torch.rand(n) * 5).square().long()
        memory.add(torch.rand(n, 1), y)
        assert len(memory) == 50
    counts = memory.class_counts()
    assert sum(counts.values()) == 50


@pytest.mark.parametrize("balance", ["class", "none"])
def test_a_loaded_memory_compares_the_same_rows(few, balance):
    memory = memory_of(40, balance)
    x, y = torch.rand(400, 1), torch.randint(3, (400,))
    for some in torch.arange(200).split(5):
        memory.add(x[some], y[some])
    loaded = memory_of(40, balance)
    loaded.load_state_dict(through_disk(memory.state_dict()))
    for some in torch.arange(200, 400).split(5):
        taken = memory.add(x[some], y[some])
        assert loaded.add(x[some], y[some]).tolist() == taken.tolist()


def test_the_best_rows_are_kept_in_the_end(few):
    memory = memory_of(40, "none")
    x = torch.rand(4000, 1)
    for some in x.split(10):
        memory.add(some, torch.zeros(len(some), dtype=torch.long))
    held = memory.table.column("x")[:, 0]
    assert held.min() > x[:, 0].quantile(0.9)
