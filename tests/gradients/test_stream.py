"""The Fisher of many batches against that of all rows at once."""

from typing import Any

import pytest
import small_networks as networks
import torch
from avalanche.models import MTSimpleMLP
from model_traces import assert_same_traces, multi_head, traces
from torch import nn

from avalanche_ext.gradients import diagonal_fisher, fisher_of_batches


@pytest.mark.parametrize("labels", ["empirical", "exact"])
@pytest.mark.parametrize("size", [1, 10, 128])
@pytest.mark.parametrize("make", [networks.mlp, networks.Twice], ids=["mlp", "twice"])
def test_batches_do_not_matter(labels: Any, size: int, make: Any) -> None:
    torch.manual_seed(0)
    model = make().double()
    x, y = torch.randn(23, 6).double(), torch.arange(23) % networks.CLASSES
    batches = [(a, b, None) for a, b in zip(x.split(size), y.split(size), strict=True)]
    before = traces(model)
    found, rows = fisher_of_batches(model, batches, labels=labels)
    assert_same_traces(model, before)
    assert rows == 23
    expected = diagonal_fisher(model, x, y, labels=labels)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-8, atol=1e-12)


def test_only_so_many_rows_are_read() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    x, y = torch.randn(20, 3).double(), torch.arange(20) % 2

    def batches() -> Any:
        yield x[:8], y[:8], None
        yield x[8:16], y[8:16], None
        raise AssertionError("more was read than is needed")

    found, rows = fisher_of_batches(model, batches(), labels="exact", most=11)
    assert rows == 11
    expected = diagonal_fisher(model, x[:11], labels="exact")
    torch.testing.assert_close(found["weight"], expected["weight"])


def test_heads_that_are_met_later() -> None:
    model = multi_head(lambda: MTSimpleMLP(input_size=6, hidden_size=5))
    x, task = torch.randn(9, 6), torch.arange(9) // 3
    y = 2 * task
    batches = [(x[i : i + 3], y[i : i + 3], task[i : i + 3]) for i in (0, 3, 6)]
    found, _ = fisher_of_batches(model, batches, labels="empirical")
    expected = diagonal_fisher(model, x, y, task, labels="empirical")
    for name, values in expected.items():
        assert (found[name] - values).norm() <= 1e-6 * values.norm(), name


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="is a mean over rows, and there is none"):
        fisher_of_batches(nn.Linear(3, 2), [])
