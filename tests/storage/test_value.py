"""avalanche_ext/storage/value.py: what rows are worth, against the formula row by row."""

import math

import pytest
import torch
from memories import inputs
from slow_memory import MODELS, SlowMemory

from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.criteria import AgeCriterion
from avalanche_ext.storage.value import Value

WEIGHTS = {"loss": 1.0, "diversity": 2.0, "energy": 0.5, "uncertainty": 0.0}
LABELS = [0, 1, 2, 3, 3, 0, 1, 2]


def both(w_age=0.0, w_use=0.0, draws=5, **options):
    """A memory of eight rows that were drawn now and then, and the reference."""
    options = {"criteria": list(WEIGHTS), "weights": WEIGHTS, **options}
    buffer = MultiStrategyBuffer(
        9, admission="score", w_age=w_age, w_use=w_use, seed=0, **options
    )
    slow = SlowMemory(WEIGHTS, w_age, w_use)
    slow.model = 0
    slow.need("mixed")
    for first in range(0, 8, 4):
        numbers, labels = list(range(first, first + 4)), LABELS[first : first + 4]
        buffer.add(inputs(numbers), torch.tensor(labels), model=MODELS[0])
        slow.rows += [
            slow.new(n, y, None) for n, y in zip(numbers, labels, strict=True)
        ]
        slow.settle()
        for _ in range(draws):
            for slot in buffer.sample(2)["index"].tolist():
                slow.rows[slot]["uses"] += 1
            slow.draws += 1
    return buffer, slow


def assert_close(found, expected):
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("w_use", [0.0, 0.7])
@pytest.mark.parametrize("w_age", [0.0, 30.0])
@pytest.mark.parametrize("draws", [0, 5])
def test_value_of_rows_stored(w_age, w_use, draws):
    buffer, slow = both(w_age, w_use, draws)
    found = Value(w_age, w_use).of(buffer.scorer.scores)
    assert found.dtype is torch.float64
    assert_close(found, slow.values())


@pytest.mark.parametrize("w_use", [0.0, 0.7])
@pytest.mark.parametrize("w_age", [0.0, 30.0])
def test_value_of_rows_that_arrive_beside_those_stored(w_age, w_use):
    """All normalised together; new rows have age 0 and the median of the uses."""
    buffer, slow = both(w_age, w_use)
    numbers, labels = [20, 21, 22], [3, 0, 1]
    rows = {"x": inputs(numbers), "y": torch.tensor(labels)}
    scored = buffer.scorer.score(rows)
    new = [slow.new(n, y, None) for n, y in zip(numbers, labels, strict=True)]
    slow.arrive(new)
    found = Value(w_age, w_use).of(buffer.scorer.scores, scored, 3)
    assert found.shape == (11,)
    assert_close(found, slow.values(new))
    assert buffer.seen == 8  # asked only


def test_rows_that_arrive_at_an_empty_memory():
    buffer = MultiStrategyBuffer(4, criteria=["loss"], admission="score", seed=0)
    rows = {"x": inputs([0, 1, 2]), "y": torch.tensor([0, 1, 2])}
    buffer.scorer.meet(MODELS[0])
    scored = buffer.scorer.score(rows)
    slow = SlowMemory({"loss": 1.0}, w_age=1.0, w_use=1.0)
    slow.model = 0
    slow.need("mixed")
    new = [slow.new(n, n, None) for n in range(3)]
    slow.arrive(new)
    found = Value(1.0, 1.0).of(buffer.scorer.scores, scored, 3)
    assert_close(found, slow.values(new))


def test_age_is_that_of_the_memory_s_criterion():
    """A τ that the user gave counts for the term of the value, too."""
    criteria = ["loss", AgeCriterion(tau=3.0)]
    buffer, slow = both(criteria=criteria, weights={"loss": 1.0, "age": 0.0})
    slow.weights = {"loss": 1.0}
    plain, older = (Value(w).of(buffer.scorer.scores) for w in (0.0, 2.0))
    expected = [2 * (1 - math.exp((r["arrival"] - 8) / 3)) for r in slow.rows]
    assert_close(plain - older, expected)


def test_what_the_value_is_made_of():
    assert Value().criteria == ("mixed",)
    assert Value(w_age=1.0).criteria == ("mixed", "age")
    assert Value(w_use=1.0).criteria == ("mixed", "access")
    assert Value(1.0, 1.0).criteria == ("mixed", "age", "access")


@pytest.mark.parametrize("name", ["w_age", "w_use"])
@pytest.mark.parametrize("weight", [-0.1, math.inf, math.nan])
def test_weights_that_cannot_be(name, weight):
    with pytest.raises(ValueError, match=f"{name} must be .* got {weight}: 0 leaves"):
        Value(**{name: weight})
