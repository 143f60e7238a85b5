"""avalanche_ext/storage/normalise.py against exact fractions."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.storage.normalise import (
    check_weights,
    checked_scores,
    normalise,
    weighted_mean,
)

inf, nan = math.inf, math.nan


def reference(scores):
    """By exact arithmetic, one score at a time."""
    finite = [Fraction(s) for s in scores if math.isfinite(s)]
    low, high = min(finite, default=0), max(finite, default=0)

    def one(score):
        if math.isinf(score):
            return 1.0 if score > 0 else 0.0
        if low == high:
            return 0.5
        return float((Fraction(score) - low) / (high - low))

    return [one(score) for score in scores]


@given(st.lists(st.floats(allow_nan=False), max_size=8))
def test_equals_exact_arithmetic(scores):
    given_ = torch.tensor(scores, dtype=torch.float64)
    normalised = normalise(given_, "loss")
    assert torch.equal(given_, torch.tensor(scores, dtype=torch.float64))
    expected = torch.tensor(reference(scores), dtype=torch.float64)
    torch.testing.assert_close(normalised, expected, rtol=1e-12, atol=1e-12)
    assert ((normalised >= 0) & (normalised <= 1)).all()


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_keeps_the_order(scores):
    normalised = normalise(torch.tensor(scores, dtype=torch.float64), "loss")
    order = sorted(range(len(scores)), key=scores.__getitem__)
    assert (normalised[order].diff() >= 0).all()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([2.0, 2.0, 2.0], [0.5, 0.5, 0.5]),
        ([7.0], [0.5]),
        ([], []),
        ([1.0, inf, 3.0, -inf], [0.0, 1.0, 1.0, 0.0]),
        ([2.0, inf, 2.0, -inf], [0.5, 1.0, 0.5, 0.0]),
        ([inf, inf], [1.0, 1.0]),
        ([-inf], [0.0]),
        ([-1.7e308, 1.7e308, 0.0], [0.0, 1.0, 0.5]),
        ([0.0, 5e-324], [0.0, 1.0]),
    ],
)
def test_cases_by_hand(scores, expected):
    normalised = normalise(torch.tensor(scores, dtype=torch.float64), "loss")
    assert normalised.tolist() == expected


def test_infinite_scores_are_kept_on_request():
    scores = torch.tensor([1.0, inf, 3.0, -inf])
    kept = normalise(scores, "loss", keep_infinite=True)
    assert kept.tolist() == [0.0, inf, 1.0, -inf]


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.uint8]
)
def test_any_real_dtype(dtype):
    scores = torch.tensor([250, 0, 50], dtype=dtype)
    normalised = normalise(scores, "loss")
    assert normalised.dtype is torch.float64
    assert normalised.tolist() == [1.0, 0.0, 0.2]


def test_scores_of_a_model_carry_no_graph():
    scores = torch.tensor([1.0, 2.0], requires_grad=True)
    assert not normalise(scores, "loss").requires_grad


def test_nan_is_refused_by_criterion_and_row():
    scores = torch.zeros(20)
    scores[[3, 17]] = nan
    with pytest.raises(
        ValueError, match=r"'loss' scored 2 of 20 rows NaN \(row 3, 17\)"
    ):
        normalise(scores, "loss")
    scores[:] = nan
    with pytest.raises(ValueError, match=r"row 0, 1, 2, 3, 4, …\)"):
        checked_scores(scores, "loss")
    scores[:] = inf
    scores[4] = nan
    with pytest.raises(ValueError, match=r"'age'.*\(row 4\)"):
        normalise(scores, "age")


def test_rows_stored_and_rows_that_arrive_are_told_apart():
    """Their numbers are of different kinds; a row drawn twice is one row."""
    scores = torch.full((9,), nan)
    slots = torch.tensor([-1, -1, 0, 7, 0, 3, 3, 5, 6])
    told = (
        r"9 of 9 rows NaN \(row 0, 7, 3, 5, 6 of those stored; row 0, 1 of those that "
    )
    with pytest.raises(ValueError, match=told):
        checked_scores(scores, "loss", slots)
    with pytest.raises(ValueError, match=r"NaN \(row 0, 7, 3, 5, 6\): look"):
        checked_scores(scores[2:], "loss", slots[2:])
    with pytest.raises(ValueError, match=r"NaN \(row 0, 1\): look"):
        checked_scores(scores[:2], "loss", slots[:2])


@pytest.mark.parametrize("shape", [(), (3, 1)])
def test_scores_are_one_a_row(shape):
    with pytest.raises(ValueError, match="'loss' must give one score a row"):
        normalise(torch.zeros(shape), "loss")


SCORES = {
    "loss": torch.tensor([0.0, 10.0, 5.0]),
    "age": torch.tensor([4.0, 4.0, 8.0]),
    "flat": torch.ones(3),
}


def test_mean_of_criteria():
    mean = weighted_mean(SCORES)
    expected = torch.tensor([0.5, 1.5, 2.0], dtype=torch.float64) / 3
    torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("scale", [1.0, 1e-300, 8e307])
def test_weighted_mean_of_criteria(scale):
    weights = {"loss": 1 * scale, "age": 2 * scale, "flat": 0.0}
    mean = weighted_mean(SCORES, weights)
    expected = torch.tensor([0.0, 1.0, 2.5], dtype=torch.float64) / 3
    torch.testing.assert_close(mean, expected)


def test_infinite_scores_are_the_ends_of_a_mean():
    scores = {"a": torch.tensor([inf, 0.0, 1.0]), "b": torch.tensor([-inf, 3.0, 1.0])}
    assert weighted_mean(scores).tolist() == [0.5, 0.5, 0.5]


def test_a_criterion_without_weight_is_not_looked_at():
    scores = {"loss": SCORES["loss"], "age": torch.tensor([nan])}
    assert weighted_mean(scores, {"loss": 1, "age": 0}).tolist() == [0.0, 1.0, 0.5]


def test_scores_of_different_rows_are_refused():
    with pytest.raises(ValueError, match=r"'loss': 3, 'age': 2"):
        weighted_mean({"loss": torch.zeros(3), "age": torch.zeros(2)})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"loss": 1, "age": -1}, "numbers from 0 on"),
        ({"loss": 0, "age": 0}, "at least one above 0"),
        ({"loss": nan, "age": 1}, "numbers from 0 on"),
        ({"loss": inf, "age": 1}, "numbers from 0 on"),
        ({"loss": 1}, r"given for \['loss'\], the criteria are \['age', 'loss'\]"),
        ({"loss": 1, "age": 1, "use": 1}, "one weight for each"),
    ],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(ValueError, match=message):
        check_weights(weights, ["loss", "age"])


def test_no_criteria():
    with pytest.raises(ValueError, match="no criteria to combine"):
        weighted_mean({})
