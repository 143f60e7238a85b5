"""avalanche_ext/storage/criteria/weighted.py: several criteria as one."""

from dataclasses import dataclass

import pytest
import torch

from avalanche_ext.storage.criteria import ScoringContext, WeightedCriterion


@dataclass
class Column:
    """The user's own: the score is a column."""

    name: str

    def score(self, rows, context):
        return rows[self.name]


ROWS = {
    "x": torch.zeros(4, 1),
    "a": torch.tensor([0.0, 1.0, 2.0, 4.0]),
    "b": torch.tensor([9, 7, 7, 5]),
    "flat": torch.full((4,), 3.0),
    "broken": torch.tensor([0.0, torch.nan, 1.0, torch.nan]),
}


def scores(names, weights=None):
    criterion = WeightedCriterion([Column(name) for name in names], weights)
    return criterion.score(ROWS, ScoringContext()).tolist()


def test_it_is_the_weighted_mean_of_what_is_normalised():
    a, b = [0, 0.25, 0.5, 1], [1, 0.5, 0.5, 0]
    assert scores("ab") == pytest.approx(
        [(x + y) / 2 for x, y in zip(a, b, strict=True)]
    )
    expected = [(3 * x + y) / 4 for x, y in zip(a, b, strict=True)]
    assert scores("ab", {"a": 3}) == pytest.approx(expected)
    assert scores(["a", "flat"]) == pytest.approx([(x + 0.5) / 2 for x in a])


def test_weight_0_is_not_computed():
    assert scores(["a", "broken"], {"broken": 0}) == pytest.approx([0, 0.25, 0.5, 1])


def test_a_combination_is_a_criterion_too():
    inner = WeightedCriterion([Column("a"), Column("b")], {"a": 3}, name="both")
    outer = WeightedCriterion([inner, Column("flat")])
    assert outer.name == "both + flat"
    plain = torch.tensor(scores("ab", {"a": 3}))
    plain = (plain - plain.min()) / (plain.max() - plain.min())
    found = outer.score(ROWS, ScoringContext())
    torch.testing.assert_close(found.float(), plain / 2 + 0.25)


def test_what_is_used_of_it():
    a, b, c = map(Column, "abc")
    inner = WeightedCriterion([b, c], {"c": 0}, name="inner")
    assert WeightedCriterion([a, inner]).used == (a, b)
    assert WeightedCriterion([a, inner], {"inner": 0}).used == (a,)


def test_bad_input():
    with pytest.raises(ValueError, match="'broken' scored 2 of 4 rows NaN"):
        scores(["a", "broken"])
    with pytest.raises(ValueError, match="no criteria to combine"):
        WeightedCriterion([])
    with pytest.raises(ValueError, match="weights"):
        scores("ab", {"a": -1})
    with pytest.raises(ValueError, match="weights"):
        scores("ab", {"a": 0, "b": 0})
    with pytest.raises(ValueError, match="weights"):
        scores("ab", {"c": 1})
    with pytest.raises(ValueError, match=r"several criteria are named \['a'\]"):
        scores("aa")
