"""avalanche_ext/storage/named.py: what a memory makes of the criteria it is given."""

import pytest
import torch
from memories import filled, plain
from torch import nn

from avalanche_ext.plugins import multi_strategy_replay
from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.criteria import (
    AgeCriterion,
    GradientCriterion,
    LossCriterion,
    WeightedCriterion,
)

MODEL = nn.Linear(1, 3)


@pytest.mark.parametrize(
    ("given", "sampling"),
    [
        ({}, "mixed"),
        ({"admission": "score"}, "mixed"),
        ({"sampling": "uniform"}, "uniform"),
        ({"criteria": ["loss"]}, "mixed"),
        ({"weights": {"forgetting": 2}}, "mixed"),
        ({"temperature": 0.5}, "mixed"),
        ({"criteria": ["loss"], "admission": "score"}, "mixed"),
        ({"criteria": ["loss"], "sampling": "priority"}, "loss"),
    ],
)
def test_what_the_preset_replays(given, sampling):
    """Its criteria are not idle."""
    plugin = multi_strategy_replay(9, batch_size_mem=2, seed=0, **given)
    assert plugin.buffer.sampling == sampling


@pytest.mark.parametrize(
    ("criteria", "priority"),
    [
        (None, "loss"),
        (["forgetting"], "forgetting"),
        (["gradient"], "gradient"),
        ([LossCriterion(name="mine")], "mine"),
        (["gradient", "uncertainty"], "mixed"),
        ([WeightedCriterion([GradientCriterion(), AgeCriterion()], name="w")], "w"),
    ],
)
def test_priority_draws_by_the_criteria_given(criteria, priority):
    memory = MultiStrategyBuffer(9, criteria=criteria, sampling="priority", seed=0)
    assert memory.sampling == priority
    memory.add(*plain(9), model=MODEL)
    scores = memory.scores(priority)
    other = filled(9, criteria=criteria, sampling="uniform")
    other.refresh(MODEL)
    for one in (memory.sample(2), other.sample(2, "priority")):
        assert one["weight"].shape == (2,)
    rates = (scores.double() + 1e-6) ** 0.6
    draws = torch.stack([memory.sample(1)["index"][0] for _ in range(3000)])
    share = draws.bincount(minlength=9) / 3000
    torch.testing.assert_close(share.double(), rates / rates.sum(), rtol=0, atol=0.05)


@pytest.mark.parametrize("sampling", ["mixed", "uniform", "priority"])
def test_the_mixed_score_where_none_are_given(sampling):
    memory = MultiStrategyBuffer(9, sampling=sampling)
    assert memory.scorer.scores.mixed.weights == {"forgetting": 1.0}
