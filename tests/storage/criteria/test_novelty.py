"""avalanche_ext/storage/criteria/novelty.py: distances and energy."""

import math

import pytest
import torch
from slow_criteria import nearest_distances
from torch import nn

from avalanche_ext.storage.criteria import (
    DiversityCriterion,
    EnergyCriterion,
    ScoringContext,
)
from avalanche_ext.storage.nearest import NearestDistance


class Same(nn.Module):
    """A model whose features are its inputs."""

    def __init__(self, width):
        super().__init__()
        self.last = nn.Linear(width, 2)

    def forward(self, x):
        return self.last(x)


def vectors(n, seed=0, width=6):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def context_of(stored, width=6):
    nearest = NearestDistance()
    nearest.insert(stored)
    return ScoringContext(stored=nearest, model=Same(width))


def energy(x, stored, own, beta):
    """The formula, term by term in float64."""
    unit = [[v / math.hypot(*row) for v in row] for row in stored.double().tolist()]
    xi = x.double().tolist()
    xi = [v / math.hypot(*xi) for v in xi]
    terms = [
        math.exp(beta * sum(a * b for a, b in zip(row, xi, strict=True)))
        for mu, row in enumerate(unit)
        if mu != own
    ]
    return -math.log(sum(terms) / len(terms)) / beta


def test_stored_rows_have_the_distance_kept():
    stored = vectors(20)
    index = torch.tensor([3, 19, 0, 7])
    rows = {"x": torch.full((4, 6), torch.nan), "index": index}  # not looked at
    context = context_of(stored)
    context.model = None
    scores = DiversityCriterion().score(rows, context)
    torch.testing.assert_close(scores, nearest_distances(stored)[index])


def test_other_rows_are_compared_with_all_that_are_stored():
    stored, x = vectors(20), vectors(5, seed=1)
    context = context_of(stored)
    scores = DiversityCriterion().score({"x": x}, context)
    expected = torch.cdist(x, stored).min(1).values
    torch.testing.assert_close(scores, expected)
    mixed = {"x": torch.cat([x, stored[4:5]]), "index": torch.tensor([-1] * 5 + [4])}
    scores = DiversityCriterion().score(mixed, context)
    expected = torch.cat([expected, nearest_distances(stored)[4:5]])
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("beta", [0.01, 1.0, 10.0, 300.0])
def test_energy_is_its_formula(beta):
    """To float32's digits of the logarithm, which are divided by beta."""
    close = {"rtol": 1e-5, "atol": 1e-6 + 5e-7 / beta}
    stored, x = vectors(20), vectors(5, seed=1)
    context, criterion = context_of(stored), EnergyCriterion(beta)
    index = torch.tensor([3, 19, 0])
    found = criterion.score({"x": torch.zeros(3, 6), "index": index}, context)
    expected = [energy(stored[i], stored, i, beta) for i in index.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected), **close)
    found = criterion.score({"x": x}, context)
    expected = [energy(row, stored, None, beta) for row in x]
    torch.testing.assert_close(found, torch.tensor(expected), **close)
    mixed = {"x": torch.cat([x, x[:1]]), "index": torch.tensor([-1] * 5 + [4])}
    found = criterion.score(mixed, context)
    expected.append(energy(stored[4], stored, 4, beta))
    torch.testing.assert_close(found, torch.tensor(expected), **close)


def test_energy_does_not_measure_norms():
    stored = vectors(20)
    scale = torch.logspace(-3, 3, 20)[:, None]
    rows = {"x": torch.zeros(20, 6), "index": torch.arange(20)}
    plain = EnergyCriterion().score(rows, context_of(stored))
    scaled = EnergyCriterion().score(rows, context_of(stored * scale))
    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-5)
    x = vectors(4, seed=2)
    torch.testing.assert_close(
        EnergyCriterion().score({"x": 50 * x}, context_of(stored)),
        EnergyCriterion().score({"x": x}, context_of(stored)),
    )


def test_energy_does_not_measure_how_full_the_memory_is():
    """Every row stored three times is as novel to others as stored once; and equal rows
    have energy −1 however many there are, which a sum with the row itself, or one
    divided by another number of terms, would not give."""
    stored, x = vectors(20), vectors(4, seed=2)
    once = EnergyCriterion().score({"x": x}, context_of(stored))
    thrice = EnergyCriterion().score({"x": x}, context_of(stored.repeat(3, 1)))
    torch.testing.assert_close(thrice, once)
    for n in (2, 5, 50):
        context = context_of(torch.ones(n, 6))
        rows = {"x": torch.zeros(n, 6), "index": torch.arange(n)}
        scores = EnergyCriterion().score(rows, context)
        torch.testing.assert_close(scores, -torch.ones(n))


def test_a_row_unlike_the_others_has_the_highest_energy_and_distance():
    stored = torch.cat([vectors(30) * 0.1 + 1, -torch.ones(1, 6)])
    rows = {"x": torch.zeros(31, 6), "index": torch.arange(31)}
    for criterion in (EnergyCriterion(), DiversityCriterion()):
        assert criterion.score(rows, context_of(stored)).argmax() == 30


def test_one_row_and_none():
    one = {"x": torch.rand(1, 6), "index": torch.tensor([0])}
    assert DiversityCriterion().score(one, context_of(vectors(1))).tolist() == [
        torch.inf
    ]
    assert EnergyCriterion().score(one, context_of(vectors(1))).tolist() == [0.0]
    empty = ScoringContext(stored=NearestDistance(), model=Same(6))
    two = {"x": torch.rand(2, 6)}
    assert DiversityCriterion().score(two, empty).tolist() == [torch.inf] * 2
    assert EnergyCriterion().score(two, empty).tolist() == [0.0, 0.0]


def test_many_rows_in_parts(monkeypatch):
    rows = {"x": torch.zeros(20, 6), "index": torch.arange(20)}
    whole = EnergyCriterion().score(rows, context_of(vectors(20)))
    monkeypatch.setattr("avalanche_ext.storage.criteria.novelty._BLOCK", 65)
    parts = EnergyCriterion().score(rows, context_of(vectors(20)))
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("criterion", [DiversityCriterion(), EnergyCriterion()])
def test_what_is_missing_is_named(criterion):
    rows = {"x": torch.rand(2, 6)}
    with pytest.raises(ValueError, match=f"'{criterion.name}' compares rows with the"):
        criterion.score(rows, ScoringContext())
    context = context_of(vectors(3))
    context.model = None
    with pytest.raises(ValueError, match="needs a model"):
        criterion.score(rows, context)


@pytest.mark.parametrize("beta", [0, -1, math.inf, math.nan])
def test_bad_beta(beta):
    with pytest.raises(ValueError, match="beta must be a finite number above 0"):
        EnergyCriterion(beta)
