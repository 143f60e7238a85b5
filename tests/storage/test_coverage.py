"""Coverage of given rows by a memory, against all distances written out."""

import pytest
import torch
from avalanche.models import MultiTaskModule
from torch import nn

from avalanche_ext.storage import MultiStrategyBuffer


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def rows(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator), torch.arange(n) % 3


@pytest.mark.parametrize("criteria", [["diversity"], ["loss"]])
def test_coverage_is_the_distance_to_the_nearest_row_stored(criteria):
    model = network()
    memory = MultiStrategyBuffer(10, criteria=criteria, sampling="mixed", seed=0)
    memory.add(*rows(40, 0), model=model)
    x, _ = rows(7, 1)
    found = memory.coverage(x)
    stored = model[:2](memory.table.column("x"))
    distances = [min((a - b).norm().item() for b in stored) for a in model[:2](x)]
    assert found.mean == pytest.approx(sum(distances) / 7, rel=1e-5)
    assert found.largest == pytest.approx(max(distances), rel=1e-5)


def test_rows_that_are_stored_are_covered_whole():
    memory = MultiStrategyBuffer(10, seed=0)
    memory.add(*rows(40, 0))
    found = memory.coverage(memory.table.column("x"), model=network())
    assert found == (0.0, 0.0)


def test_task_labels_choose_the_head():
    class Heads(MultiTaskModule):
        def __init__(self):
            super().__init__()
            self.bodies = nn.ModuleList(nn.Linear(4, 5) for _ in range(2))
            self.head = nn.Linear(5, 3)
            self.max_class_label = 3

        def forward_single_task(self, x, task_label):
            return self.head(self.bodies[task_label](x))

    model = Heads()
    memory = MultiStrategyBuffer(10, seed=0)
    x, y = rows(6, 0)
    task = torch.arange(6) % 2
    memory.add(x, y, task)
    assert memory.coverage(x, task, model=model).largest < 1e-5
    assert memory.coverage(x, 1 - task, model=model).largest > 1e-2


def test_what_is_missing_is_named():
    memory = MultiStrategyBuffer(10, seed=0)
    with pytest.raises(ValueError, match="no rows: add rows first"):
        memory.coverage(torch.rand(2, 4))
    memory.add(*rows(40, 0))
    with pytest.raises(ValueError, match="model"):
        memory.coverage(torch.rand(2, 4))
    with pytest.raises(ValueError, match="coverage of no rows"):
        memory.coverage(torch.rand(0, 4), model=network())
