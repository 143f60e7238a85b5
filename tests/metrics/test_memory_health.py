"""avalanche_ext/metrics/memory_health.py: against counting rows, one by one."""

import math

import dill
import numpy as np
import pytest
import torch
from torch import nn

from avalanche_ext import MultiStrategyBuffer, memory_health_metrics
from avalanche_ext.metrics.memory_health import PERCENTS, quantiles
from avalanche_ext.plugins import multi_strategy_replay
from avalanche_ext.storage.softmax import Softmax


def counted(values):
    """The smallest value such that p percent of all are at most as large."""
    found = []
    for percent in PERCENTS:
        for value in sorted(values):
            covered = sum(other <= value for other in values)
            if 100 * covered >= percent * len(values):
                found.append(value)
                break
    return tuple(found)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 59, 60, 100, 181, 200])
def test_quantiles_by_counting(n):
    draw = np.random.default_rng(n)
    for values in (draw.normal(size=n), draw.integers(0, 5, n).astype(float)):
        expected = counted(values.tolist())
        assert quantiles(torch.tensor(values)) == expected
        shares = [percent / 100 for percent in PERCENTS]
        by_numpy = np.quantile(values, shares, method="inverted_cdf")
        assert expected == tuple(by_numpy)


def test_quantiles_of_integers_infinities_and_nothing():
    assert quantiles(torch.tensor([3, 1, 2])) == (1, 1, 1, 2, 3, 3, 3)
    infinite = torch.tensor([-math.inf, 0.0, math.inf])
    assert quantiles(infinite) == counted(infinite.tolist())
    assert quantiles(torch.zeros(0)) == ()


class Counted(nn.Module):
    """Counts its forward passes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.inner = nn.Linear(3, 4)
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        return self.inner(x)


def rows(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), torch.arange(n) % 4


def test_a_reading_by_hand():
    """Scored rows, then rows that are not, then draws."""
    model = Counted()
    sampling = Softmax("loss", temperature=0.1)
    memory = MultiStrategyBuffer(
        40, criteria=("loss", "age"), sampling=sampling, seed=0
    )
    x, y = rows(12, 0)
    memory.add(x, y, model=model)
    drawn = [memory.sample(3)["index"] for _ in range(2)]
    memory.add(*rows(8, 1))
    losses = nn.functional.cross_entropy(model.inner(x), y, reduction="none").tolist()
    passes, state = model.passes, torch.get_rng_state()
    (metric,) = memory_health_metrics(memory)
    health = metric.read()
    assert model.passes == passes
    assert torch.equal(torch.get_rng_state(), state)
    assert memory.stale.tolist() == 12 * [False] + 8 * [True]
    assert (health.rows, health.stale) == (20, 0.4)
    ages = [20 - number for number in range(1, 21)]
    assert health.ages == counted(ages)
    times = torch.zeros(20).index_add(0, torch.cat(drawn), torch.ones(6)).tolist()
    assert health.uses == counted(times)
    assert health.never_drawn == times.count(0) / 20
    assert set(health.scores) == {"loss", "age", "mixed"}
    assert health.scores["loss"] == pytest.approx(counted(losses), abs=1e-6)
    terms = [1 - math.exp(-age / 1000) for age in ages[:12]]
    assert health.scores["age"] == pytest.approx(counted(terms), abs=1e-6)
    low, high = min(losses), max(losses)
    weight = [math.exp((s - low) / (high - low) / 0.1) for s in losses]
    size = sum(weight) ** 2 / sum(w * w for w in weight)
    assert health.effective_sample_size == pytest.approx(size, rel=1e-4)


def test_an_empty_memory_and_one_without_scores():
    memory = MultiStrategyBuffer(9, sampling="uniform", seed=0)
    (metric,) = memory_health_metrics(memory)
    empty = metric.read()
    assert (empty.rows, empty.stale, empty.never_drawn) == (0, 0, 0)
    assert empty.ages == empty.uses == ()
    assert empty.scores == {}
    memory.add(*rows(20, 0))
    plain = metric.read()
    assert plain.scores == {}
    assert (plain.rows, plain.stale, plain.effective_sample_size) == (9, 0, 9)
    assert plain.uses == (0,) * 7
    assert dict(metric.values(empty)) == {
        "MemoryStale": 0,
        "MemoryNeverDrawn": 0,
        "MemoryEffectiveSampleSize": 0,
    }


def test_all_rows_stale_and_a_coreset():
    for options in ({"sampling": "loss"}, {"sampling": "coreset"}):
        memory = MultiStrategyBuffer(9, seed=0, **options)
        memory.add(*rows(9, 0))
        (metric,) = memory_health_metrics(memory)
        health = metric.read()
        assert (health.stale, health.scores) == (1, {})
        assert health.effective_sample_size is None
        assert "MemoryEffectiveSampleSize" not in dict(metric.values(health))


def trained(lab, watched, **options):
    bm = lab.build("class")
    plugin = multi_strategy_replay(24, batch_size_mem=5, seed=0, **options)
    metrics = memory_health_metrics(plugin.buffer) if watched else []
    strategy = lab.naive(metrics, plugins=[plugin])
    for experience in bm.train_stream:
        strategy.train(experience)
        strategy.eval(bm.test_stream)
    return strategy, plugin.buffer, metrics


@pytest.mark.parametrize(
    "options",
    [
        {"sampling": "mixed"},
        {"sampling": "mixed", "criteria": ("gradient", "diversity")},
        {"sampling": "diversity", "admission": "score", "criteria": ("loss",)},
        {"sampling": "loss", "feed": "experience", "refresh_at_end": False},
    ],
)
def test_a_run_is_the_same_with_and_without_it(lab, options):
    """Bit for bit: weights, rows, facts and scores."""
    plain, watched = trained(lab, False, **options), trained(lab, True, **options)
    for one, other in zip(
        plain[0].model.parameters(), watched[0].model.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    memories = plain[1].table, watched[1].table
    assert memories[0].columns == memories[1].columns
    for name in memories[0].columns:
        one, other = (table.column(name) for table in memories)
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_what_is_emitted_and_kept(lab):
    strategy, memory, (metric,) = trained(
        lab, True, criteria=("loss",), sampling="loss"
    )
    assert metric.experiences == [0, 1, 2]
    assert [health.rows for health in metric.history] == [24, 24, 24]
    last = metric.result()
    assert last == metric.read() == metric.by_experience[2]
    emitted = strategy.evaluator.get_last_metrics()
    assert len(emitted) == 4 * 7 + 3
    for name, expected in (
        ("MemoryScore_loss_Median", counted(memory.scores("loss").tolist())[3]),
        ("MemoryScore_mixed_Max", 1),
        ("MemoryAge_Q05", counted(memory.ages.tolist())[1]),
        ("MemoryUses_Q95", counted(memory.uses.tolist())[5]),
        ("MemoryAge_Min", memory.ages.min()),
        ("MemoryStale", 0),
        ("MemoryNeverDrawn", (memory.uses == 0).double().mean()),
        ("MemoryEffectiveSampleSize", memory.effective_sample_size),
    ):
        assert emitted[f"{name}/eval_phase"] == pytest.approx(float(expected))
    assert dill.loads(dill.dumps(metric)).history == metric.history


@pytest.mark.parametrize("given", [None, [], "memory"])
def test_what_is_no_memory_is_refused(given):
    with pytest.raises(TypeError, match=r"MultiStrategyBuffer, got .*plugin\.buffer"):
        memory_health_metrics(given)
