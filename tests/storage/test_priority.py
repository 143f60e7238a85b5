"""avalanche_ext/storage/priority.py: probabilities, and weights without bias."""

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy import stats
from successive_sampling import every_race, sequence_probabilities

from avalanche_ext.storage import priority, weighted
from avalanche_ext.storage.priority import Priority

ACCEPT = 1e-4
RUNS = 40_000
SCORES = torch.tensor([2.0, 0.1, 5.0, 1.0], dtype=torch.float64)
VALUES = torch.tensor([3.0, -1.0, 0.5, 8.0], dtype=torch.float64)
inf, nan = math.inf, math.nan


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def powers(alpha, eps):
    return (SCORES + eps) ** alpha


@pytest.mark.parametrize(("alpha", "eps"), [(0.6, 1e-6), (1.0, 0.5), (3.0, 0.0)])
def test_rows_are_drawn_successively_by_priority(alpha, eps):
    sampling = Priority("loss", alpha=alpha, eps=eps)
    rates = powers(alpha, eps)
    torch.testing.assert_close(sampling.probabilities(SCORES), rates / rates.sum())
    index = sampling.draws(2, RUNS, SCORES, seeded()).index
    exact = sequence_probabilities(rates.tolist(), 2)
    observed = Counter(map(tuple, index.tolist()))
    counts = [observed[sequence] for sequence in exact]
    expected = [RUNS * p for p in exact.values()]
    assert stats.chisquare(counts, expected).pvalue > ACCEPT


# Importance weights


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_without_replacement_the_weighted_mean_has_no_bias(n, alpha, monkeypatch):
    """Over all races: E[1/n Σ weight_i f_i] = 1/N Σ f_i at β = 1."""
    sampling = Priority("loss", alpha=alpha, beta=1.0)
    numbers, chance, _ = every_race(powers(alpha, 1e-6).tolist(), n)
    monkeypatch.setattr(weighted, "_log_exponentials", lambda *_: numbers.log())
    draws = sampling.draws(n, len(numbers), SCORES, seeded())
    mean = (draws.weight * VALUES[draws.index]).mean(1)
    assert float(chance.sum()) == pytest.approx(1, abs=1e-10)
    assert float((chance * mean).sum()) == pytest.approx(float(VALUES.mean()), abs=1e-8)
    assert float((chance * draws.weight.mean(1)).sum()) == pytest.approx(1, abs=1e-8)


def test_without_replacement_the_mean_of_many_draws():
    draws = Priority(beta=1.0).draws(2, RUNS, SCORES, seeded())
    mean = (draws.weight * VALUES[draws.index]).mean(1)
    assert abs(mean.mean() - VALUES.mean()) < 5 * mean.std() / RUNS**0.5
    plain = VALUES[draws.index].mean(1)
    assert abs(plain.mean() - VALUES.mean()) > 20 * plain.std() / RUNS**0.5


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.6, 1.5])
def test_with_replacement_over_all_sequences(n, alpha, monkeypatch):
    """Weights are (N p)^−β over their maximum, and (N p)^−1 has no bias."""
    probability = powers(alpha, 1e-6) / powers(alpha, 1e-6).sum()
    sequences = torch.tensor(list(itertools.product(range(4), repeat=n)))
    monkeypatch.setattr(priority, "with_replacement", lambda *_: sequences.flatten())
    for beta in (0.0, 0.4, 1.0):
        sampling = Priority(alpha=alpha, beta=beta, replacement=True)
        draws = sampling.draws(n, len(sequences), SCORES, seeded())
        assert torch.equal(draws.index, sequences)
        unscaled = (4 * probability[sequences]) ** -beta
        largest = unscaled.amax(1, keepdim=True)
        torch.testing.assert_close(draws.weight, unscaled / largest)
    mean = (draws.weight * largest * VALUES[sequences]).mean(1)
    chance = probability[sequences].prod(1)
    assert float((chance * mean).sum()) == pytest.approx(
        float(VALUES.mean()), abs=1e-12
    )


def test_beta_is_the_exponent():
    full = Priority(beta=1.0).draws(2, 50, SCORES, seeded())
    for beta in (0.0, 0.4, 2.0):
        draws = Priority(beta=beta).draws(2, 50, SCORES, seeded())
        assert torch.equal(draws.index, full.index)
        torch.testing.assert_close(draws.weight, full.weight**beta)


@pytest.mark.parametrize("replacement", [False, True])
def test_uniform_priorities_without_replacement_and_with(replacement):
    sampling = Priority(alpha=0.0, beta=1.0, replacement=replacement)
    scores = torch.tensor([inf, 0.0, 3.0, 1e300], dtype=torch.float64)
    assert sampling.probabilities(scores).tolist() == [0.25] * 4
    draws = sampling.draws(1, RUNS, scores, seeded())
    counts = torch.bincount(draws.index.flatten(), minlength=4)
    assert stats.chisquare(counts.numpy()).pvalue > ACCEPT
    if replacement:
        assert (draws.weight == 1).all()


# Any scores


@pytest.mark.parametrize("alpha", [5e-324, 1e-3, 0.6, 50.0, 1e300])
@pytest.mark.parametrize(
    "scores",
    [
        [0.0] * 6,
        [0.0, 0.0, 0.0, 0.0, 0.0, 1e-320],
        [1.7e308, 1.0, 0.0, 1.0, 1e-300, 2.0],
        [inf, 1.0, 2.0, inf, 0.0, 0.0],
        [inf] * 6,
    ],
)
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_any_scores(scores, alpha, eps):
    scores = torch.tensor(scores, dtype=torch.float64)
    for replacement in (False, True):
        sampling = Priority(alpha=alpha, eps=eps, replacement=replacement)
        probability = sampling.probabilities(scores)
        assert float(probability.sum()) == pytest.approx(1)
        draws = sampling.draws(3, 200, scores, seeded())
        assert draws.weight.isfinite().all()
        assert (draws.weight > 0).all()
        if scores.isinf().any():
            assert (scores[draws.index[:, 0]] == inf).all()


@pytest.mark.parametrize("replacement", [False, True])
def test_one_draw_is_the_first_of_many(replacement):
    sampling = Priority(replacement=replacement)
    draw = sampling.draw(3, SCORES, seeded())
    many = sampling.draws(3, 1, SCORES, seeded())
    assert torch.equal(draw.index, many.index[0])
    assert draw.weight.dtype is torch.float32
    torch.testing.assert_close(draw.weight, many.weight[0].float())


@pytest.mark.parametrize("replacement", [False, True])
def test_all_rows_once_where_no_more_are_stored(replacement):
    generator = seeded()
    for n in (4, 9):
        draw = Priority(beta=1.0, replacement=replacement).draw(n, SCORES, generator)
        assert draw.index.tolist() == [0, 1, 2, 3]
        assert draw.weight.tolist() == [1.0] * 4
    assert torch.equal(generator.get_state(), seeded().get_state())


@pytest.mark.parametrize("replacement", [False, True])
def test_no_rows(replacement):
    draw = Priority(replacement=replacement).draw(0, SCORES, seeded())
    assert draw.index.shape == draw.weight.shape == (0,)


def test_scores_that_are_refused():
    with pytest.raises(
        ValueError, match=r"'energy' scored 2 of 3 rows below 0 \(row 0, 2\)"
    ):
        Priority("energy").draw(1, torch.tensor([-1.0, 0.0, -inf]), seeded())
    with pytest.raises(ValueError, match=r"'loss' scored 1 of 2 rows NaN \(row 1\)"):
        Priority().draw(1, torch.tensor([0.0, nan]), seeded())


@pytest.mark.parametrize("option", ["alpha", "beta", "eps"])
@pytest.mark.parametrize("value", [-0.1, inf, nan])
def test_options_that_cannot_be(option, value):
    with pytest.raises(ValueError, match=f"{option} of priority sampling must be"):
        Priority(**{option: value})
