"""avalanche_ext/storage/criteria/use.py: age and use."""

import math
from statistics import median

import pytest
import torch

from avalanche_ext.storage.criteria import (
    AccessCriterion,
    AgeCriterion,
    ScoringContext,
)


def test_age_is_counted_in_samples_since_admission():
    arrival = torch.tensor([1, 500, 4000, 5000])
    rows = {"x": torch.zeros(4, 1), "arrival": arrival}
    for tau in (10, 1000.0):
        scores = AgeCriterion(tau).score(rows, ScoringContext(seen=5000))
        expected = [1 - math.exp(-(5000 - a) / tau) for a in arrival.tolist()]
        assert scores.tolist() == pytest.approx(expected)
    assert AgeCriterion().tau == 1000
    assert AgeCriterion().score(
        {"x": torch.zeros(3, 1)}, ScoringContext()
    ).tolist() == [
        0,
        0,
        0,
    ]


def test_access_is_uses_for_each_draw_that_a_row_could_be_in():
    uses, drawn = [5, 0, 3, 0, 0], [0, 2, 6, 10, 10]
    rows = {
        "x": torch.zeros(5, 1),
        "uses": torch.tensor(uses, dtype=torch.int32),
        "drawn": torch.tensor(drawn),
    }
    scores = AccessCriterion().score(rows, ScoringContext(draws=10))
    rates = [u / (10 - d) for u, d in zip(uses, drawn, strict=True) if d < 10]
    assert scores.tolist() == pytest.approx([*rates, median(rates), median(rates)])


def test_new_rows_alone_are_alike():
    rows = {
        "x": torch.zeros(2, 1),
        "uses": torch.zeros(2),
        "drawn": torch.full((2,), 7),
    }
    assert AccessCriterion().score(rows, ScoringContext(draws=7)).tolist() == [0, 0]
    assert AccessCriterion().score({"x": rows["x"]}, ScoringContext()).tolist() == [
        0,
        0,
    ]


@pytest.mark.parametrize("tau", [0, -5, math.inf, math.nan])
def test_bad_tau(tau):
    with pytest.raises(ValueError, match="tau must be a finite number above 0"):
        AgeCriterion(tau)
