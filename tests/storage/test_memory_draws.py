"""avalanche_ext/storage/memory.py: what is drawn through a memory, against exact odds.

The samplings alone are tested in their own files; here the scores are those of rows under
a model, found by the memory, and rows are read off what sample() returns.
"""

import math
from collections import Counter

import pytest
import torch
from inclusion import ACCEPT, REJECT, chi_square
from memories import inputs, numbers_of
from scipy import stats
from slow_criteria import k_center_loop
from slow_memory import MODELS, SlowMemory
from slow_scores import normalised
from successive_sampling import every_race, subset_probabilities

from avalanche_ext.storage import MultiStrategyBuffer, weighted
from avalanche_ext.storage.coreset import Coreset
from avalanche_ext.storage.priority import Priority
from avalanche_ext.storage.softmax import Softmax

RUNS = 2000
LABELS = [0, 1, 2, 3, 1]
WEIGHTS = {"loss": 1.0, "diversity": 3.0, "uncertainty": 0.5}


def both(n=5, **options):
    """A memory that holds rows 10, 11, … and what the reference knows of them."""
    options = {"criteria": list(WEIGHTS), "weights": WEIGHTS, "seed": 0, **options}
    buffer = MultiStrategyBuffer(8, **options)
    slow = SlowMemory(options["weights"])
    slow.model = 0
    for name in ("mixed", "loss", "gradient", "energy"):
        slow.need(name)
    numbers, labels = list(range(10, 10 + n)), LABELS[:n]
    buffer.add(inputs(numbers), torch.tensor(labels), model=MODELS[0])
    slow.rows = [slow.new(i, y, None) for i, y in zip(numbers, labels, strict=True)]
    slow.settle()
    return buffer, slow


def odds(scores, temperature):
    return [math.exp(score / temperature) for score in normalised(scores)]


def drawn(buffer, n, **how):
    """Which rows each of many draws holds, by number."""
    draws = [numbers_of(buffer.sample(n, **how)["x"]) for _ in range(RUNS)]
    return Counter(tuple(sorted(number - 10 for number in draw)) for draw in draws)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    ("name", "temperature"),
    [
        ("loss", 0.5),
        ("gradient", 0.4),
        ("energy", 0.3),
        ("diversity", 0.5),
        ("mixed", 0.4),
    ],
)
def test_draws_by_scores(name, temperature, n):
    """Of the softmax of the normalised scores, one row after the other."""
    buffer, slow = both()
    exact = subset_probabilities(odds(slow.scores(name), temperature), n)
    seen = drawn(buffer, n, strategy=name, temperature=temperature)
    assert chi_square(seen, exact) > ACCEPT
    warmer = subset_probabilities(odds(slow.scores(name), 1.5 * temperature), n)
    assert chi_square(seen, warmer) < REJECT


def test_every_way_to_say_how_to_draw_is_the_same():
    """By name, as an object, for the memory or for one draw: the same rows."""
    ways = [
        ({"sampling": "loss", "temperature": 0.4}, {}),
        ({"sampling": Softmax("loss", 0.4)}, {}),
        ({"sampling": "loss"}, {"temperature": 0.4}),
        ({}, {"strategy": "loss", "temperature": 0.4}),
        ({"sampling": "coreset"}, {"strategy": Softmax("loss", 0.4)}),
    ]
    found = []
    for options, how in ways:
        buffer, _ = both(**options)
        found.append([buffer.sample(2, **how)["index"].tolist() for _ in range(20)])
    assert all(other == found[0] for other in found)
    assert len({tuple(index) for index in found[0]}) > 3


def test_ages_and_uses_are_drawn_by_as_they_are_at_the_time():
    buffer, slow = both(criteria=["access", "age"], weights={"access": 1.0, "age": 0.0})
    greedy = {"strategy": "access", "temperature": 1e-9}
    for _ in range(3):
        buffer.sample(1, strategy="loss", temperature=1e-9)
    most = max(range(5), key=slow.scores("loss").__getitem__)
    assert buffer.sample(1, **greedy)["index"].tolist() == [most]
    assert buffer.uses.tolist() == [4 if slot == most else 0 for slot in range(5)]
    oldest = buffer.sample(1, strategy="age", temperature=1e-9)
    assert oldest["index"].tolist() == [0]


# Priority


@pytest.mark.parametrize("sampling", ["priority", Priority("gradient", alpha=1.5)])
def test_priority_draws(sampling):
    buffer, slow = both()
    name, alpha = ("mixed", 0.6) if sampling == "priority" else ("gradient", 1.5)
    rates = [(score + 1e-6) ** alpha for score in slow.scores(name)]
    seen = drawn(buffer, 2, strategy=sampling)
    assert chi_square(seen, subset_probabilities(rates, 2)) > ACCEPT
    flatter = subset_probabilities([rate**0.7 for rate in rates], 2)
    assert chi_square(seen, flatter) < REJECT


@pytest.mark.parametrize("n", [1, 2])
def test_importance_weights_have_no_bias(n, monkeypatch):
    """Over all races, drawn one by one through the memory: the weighted mean of what a
    draw holds is on average the mean over the rows stored."""
    sampling = Priority("loss", alpha=1.2, beta=1.0)
    buffer, slow = both(3, sampling=sampling)
    rates = [(score + 1e-6) ** 1.2 for score in slow.scores("loss")]
    numbers, chances, subsets = every_race(rates, n)
    races = iter(numbers.log()[:, None])
    monkeypatch.setattr(weighted, "_log_exponentials", lambda *_: next(races))
    mean = plain = 0.0
    for chance, subset in zip(chances.tolist(), subsets, strict=True):
        rows = buffer.sample(n)
        assert sorted(rows["index"].tolist()) == list(subset)
        values = torch.tensor(numbers_of(rows["x"])) ** 2 / n
        mean += chance * float((rows["weight"] * values).sum())
        plain += chance * float(values.sum())
    expected = (10**2 + 11**2 + 12**2) / 3
    assert mean == pytest.approx(expected, rel=1e-6)
    assert plain != pytest.approx(expected, rel=1e-3)  # without the weights


def test_draws_with_replacement():
    buffer, slow = both(sampling=Priority("loss", beta=0.5, replacement=True))
    p = torch.tensor(slow.scores("loss"), dtype=torch.float64).add(1e-6).pow(0.6)
    p /= p.sum()
    counts = torch.zeros(5)
    for draw in range(1, RUNS // 4):
        rows = buffer.sample(4)
        index = rows["index"]
        counts += torch.bincount(index, minlength=5)
        weight = (5 * p[index]) ** -0.5
        torch.testing.assert_close(rows["weight"].double(), weight / weight.max())
        assert buffer.draws == draw
    assert buffer.uses.tolist() == counts.tolist()
    assert stats.chisquare(counts.numpy(), (counts.sum() * p).numpy()).pvalue > ACCEPT


# Coreset


@pytest.mark.parametrize("sampling", ["coreset", Coreset()])
def test_coreset_draws_are_the_obvious_loop(sampling):
    """From a first row that is random, in the features that the model has."""
    buffer, slow = both(sampling=sampling)
    features = torch.tensor([row["feature"] for row in slow.rows])
    starts = Counter()
    for _ in range(400):
        index = buffer.sample(3)["index"].tolist()
        assert index == k_center_loop(features, 3, start=index[0])
        starts[index[0]] += 1
    assert stats.chisquare([starts[slot] for slot in range(5)]).pvalue > ACCEPT


def test_draws_by_use_know_the_draws_before():
    """Of inner loops, too, whose draws are counted later: the row drawn most is drawn."""
    buffer, _ = both(sampling=Softmax("access", temperature=1e-6))
    rows = {int(buffer.draw(1).index)}
    assert buffer.effective_sample_size == pytest.approx(1.0)
    rows |= {int(buffer.draw(1).index) for _ in range(19)}
    assert len(rows) == 1
    assert sorted(buffer.uses.tolist()) == [0] * 4 + [20]


def test_another_sampling_is_not_taken_for_the_memorys_own():
    """Which alone is judged: a warning would be an error, and features no scores."""
    buffer = MultiStrategyBuffer(30, criteria=["age"], sampling="age", seed=0)
    buffer.add(inputs(list(range(30))), torch.zeros(30, dtype=torch.long))
    buffer.scorer.meet(MODELS[0])
    for other in (Softmax("age", temperature=1e-6), "coreset"):
        for _ in range(800):
            buffer.sample(2, other)


# All rows


@pytest.mark.parametrize(
    "strategy", ["uniform", "loss", "mixed", "priority", "coreset", "access"]
)
@pytest.mark.parametrize("n", [5, 6, 1000])
def test_more_rows_than_there_are(n, strategy):
    """All, once each and in order, of weight 1; no model is asked, no number is drawn."""
    buffer, _ = both()
    buffer.add(inputs([99]), torch.tensor([0]))  # of scores not known
    before = buffer.state_dict()["drawing"]
    rows = buffer.sample(n + 1, strategy)
    assert numbers_of(rows["x"]) == [10, 11, 12, 13, 14, 99]
    assert rows["index"].tolist() == list(range(6))
    assert rows["weight"].tolist() == [1.0] * 6
    assert rows["uses"].tolist() == buffer.uses.tolist() == [1] * 6
    assert buffer.draws == 1
    assert torch.equal(buffer.state_dict()["drawing"], before)


def test_no_rows_are_a_draw_too():
    buffer, _ = both()
    for strategy in ("uniform", "loss", "mixed", "priority", "coreset"):
        rows = buffer.sample(0, strategy)
        assert rows.batch_size == (0,)
    assert buffer.draws == 5
    assert buffer.uses.tolist() == [0] * 5
