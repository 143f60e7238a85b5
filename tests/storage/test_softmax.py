"""avalanche_ext/storage/softmax.py against exact probabilities."""

import math
from collections import Counter

import pytest
import torch
from scipy import stats
from successive_sampling import sequence_probabilities

from avalanche_ext.storage.normalise import weighted_mean
from avalanche_ext.storage.softmax import Softmax

ACCEPT = 1e-4
RUNS = 40_000
SCORES = torch.tensor([5.0, 1.0, 3.0, 2.0])
inf, nan = math.inf, math.nan


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def chi_square(index, probability):
    observed = Counter(map(tuple, index.tolist()))
    assert set(observed) <= set(probability)
    expected = [len(index) * p for p in probability.values()]
    counts = [observed[outcome] for outcome in probability]
    return float(stats.chisquare(counts, expected).pvalue)


def by_hand(scores, temperature):
    low, high = min(scores), max(scores)
    weights = [math.exp((s - low) / (high - low) / temperature) for s in scores]
    return [w / sum(weights) for w in weights]


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_draws_are_successive_by_the_softmax(temperature):
    sampling = Softmax("loss", temperature)
    exact = by_hand(SCORES.tolist(), temperature)
    torch.testing.assert_close(
        sampling.probabilities(SCORES), torch.tensor(exact, dtype=torch.float64)
    )
    index = sampling.draws(2, RUNS, SCORES, seeded())
    assert chi_square(index, sequence_probabilities(exact, 2)) > ACCEPT


def test_with_replacement_rows_are_independent():
    sampling = Softmax("loss", 0.5, replacement=True)
    exact = by_hand(SCORES.tolist(), 0.5)
    index = sampling.draws(2, RUNS, SCORES, seeded())
    pairs = {(a, b): exact[a] * exact[b] for a in range(4) for b in range(4)}
    assert chi_square(index, pairs) > ACCEPT


@pytest.mark.parametrize("replacement", [False, True])
def test_one_draw_is_the_first_of_many(replacement):
    sampling = Softmax("loss", 0.5, replacement)
    draw = sampling.draw(3, SCORES, seeded())
    assert torch.equal(draw.index, sampling.draws(3, 1, SCORES, seeded())[0])
    assert draw.index.dtype is torch.int64
    assert torch.equal(draw.weight, torch.ones(3))


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("n", [4, 5, 100])
def test_all_rows_once_where_no_more_are_stored(n, replacement):
    generator = seeded()
    draw = Softmax("loss", replacement=replacement).draw(n, SCORES, generator)
    assert draw.index.tolist() == [0, 1, 2, 3]
    assert draw.weight.tolist() == [1.0] * 4
    assert torch.equal(generator.get_state(), seeded().get_state())


def test_no_rows():
    draw = Softmax("loss").draw(0, SCORES, seeded())
    assert draw.index.shape == draw.weight.shape == (0,)
    assert len(Softmax("loss").draw(3, SCORES[:0], seeded()).index) == 0


@pytest.mark.parametrize("shift", [0.0, -7.0])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_scale_and_zero_of_the_scores_do_not_matter(scale, shift):
    scores = (SCORES.double() + shift) * scale
    expected = Softmax("loss").probabilities(SCORES)
    torch.testing.assert_close(Softmax("loss").probabilities(scores), expected)


@pytest.mark.parametrize("temperature", [5e-324, 1e-100, 1e-12, 0.1, 1e12, 1.7e308])
@pytest.mark.parametrize(
    "scores",
    [
        [0.0, 1.0, 2.0, 3.0, inf, -inf],
        [1.0] * 6,
        [inf] * 6,
        [-inf] * 6,
        [inf, inf, -inf, -inf, 0.0, 0.0],
        [-1.7e308, 1.7e308, 0.0, 5e-324, inf, 1.0],
    ],
)
def test_any_temperature_and_any_scores(temperature, scores):
    scores = torch.tensor(scores, dtype=torch.float64)
    for replacement in (False, True):
        sampling = Softmax("loss", temperature, replacement)
        probability = sampling.probabilities(scores)
        assert float(probability.sum()) == pytest.approx(1)
        assert (probability >= 0).all()
        index = sampling.draws(4, 500, scores, seeded())
        assert ((index >= 0) & (index < 6)).all()
        if replacement:
            assert (probability[index] > 0).all()
        else:
            assert all(len(set(drawn)) == 4 for drawn in index.tolist())
            first = scores[index[:, 0]]
            assert (first == inf).all() or not (scores == inf).any()
            assert not ((scores[index] == -inf) & (scores > -inf).sum().ge(4)).any()


def test_greedy_draws_are_in_the_order_of_the_scores():
    draw = Softmax("loss", 1e-12).draw(3, SCORES, seeded())
    assert draw.index.tolist() == [0, 2, 3]


def test_mixed_is_the_softmax_of_the_mean_of_the_criteria():
    scores = {"loss": SCORES, "age": torch.tensor([0.0, 9.0, 9.0, 3.0])}
    mean = weighted_mean(scores, {"loss": 1, "age": 3})
    low = [1.0 / 4, 3.0 / 4, (0.5 + 3) / 4, (0.25 + 1) / 4]
    exact = torch.tensor(by_hand(low, 0.3), dtype=torch.float64)
    torch.testing.assert_close(Softmax("mixed", 0.3).probabilities(mean), exact)


def test_scores_are_left_as_they_are():
    scores = SCORES.clone()
    Softmax("loss").draw(2, scores, seeded())
    assert torch.equal(scores, SCORES)


def test_nan_is_refused_by_name_and_row():
    for n in (2, 1):
        with pytest.raises(
            ValueError, match=r"'entropy' scored 1 of 3 rows NaN \(row 1\)"
        ):
            Softmax("entropy").draw(n, torch.tensor([1.0, nan, 2.0]), seeded())


@pytest.mark.parametrize("temperature", [0.0, -1.0, inf, nan])
def test_temperatures_that_cannot_be(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        Softmax("loss", temperature)
