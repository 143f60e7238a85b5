"""avalanche_ext/storage/weighted.py against exact probabilities.

Those of all sequences are enumerated, those of inclusion given the threshold are
integrated over all races; random draws are judged by chi-square with fixed seeds.
"""

import math
from collections import Counter

import pytest
import torch
from scipy import stats
from successive_sampling import (
    every_race,
    inclusion_probabilities,
    sequence_probabilities,
    subset_probabilities,
)

from avalanche_ext.storage import weighted
from avalanche_ext.storage.weighted import (
    probabilities,
    successive,
    successive_with_inclusion,
    with_replacement,
)

# A correct sampler fails one check in ten thousand; a wrong one is beyond doubt.
ACCEPT, REJECT = 1e-4, 1e-7
RUNS = 40_000
WEIGHTS = [0.4, 0.05, 0.25, 0.1, 0.2]
inf = math.inf


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def logs(weights):
    return torch.tensor(weights, dtype=torch.float64).log()


def chi_square(observed, probability):
    """p-value of outcome counts under exact probabilities (Pearson's test)."""
    assert set(observed) <= set(probability)
    runs = sum(observed.values())
    statistic = sum(
        (observed[outcome] - runs * p) ** 2 / (runs * p)
        for outcome, p in probability.items()
    )
    return float(stats.chi2.sf(statistic, len(probability) - 1))


def counted(index):
    return Counter(map(tuple, index.tolist()))


# Without replacement


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_sequences_have_the_probabilities_of_successive_sampling(n):
    index = successive(logs(WEIGHTS), n, seeded(), draws=RUNS)
    assert index.shape == (RUNS, n)
    assert index.dtype is torch.int64
    exact = sequence_probabilities(WEIGHTS, n)
    assert chi_square(counted(index), exact) > ACCEPT


@pytest.mark.parametrize("n", [2, 3, 4])
def test_subsets_and_inclusion(n):
    index = successive(logs(WEIGHTS), n, seeded(n), draws=RUNS)
    observed = counted(index.sort(dim=1).values)
    assert chi_square(observed, subset_probabilities(WEIGHTS, n)) > ACCEPT
    uniform = subset_probabilities([1.0] * 5, n)
    assert chi_square(observed, uniform) < REJECT
    slightly_wrong = subset_probabilities([0.4, 0.05, 0.25, 0.12, 0.18], n)
    assert chi_square(observed, slightly_wrong) < REJECT
    share = torch.bincount(index.flatten(), minlength=5) / RUNS
    exact = torch.tensor(inclusion_probabilities(WEIGHTS, n))
    error = (exact * (1 - exact) / RUNS).sqrt()
    assert ((share - exact).abs() < 5 * error).all()


def test_one_draw_at_a_time_has_the_same_probabilities():
    generator = seeded(5)
    index = torch.cat([successive(logs(WEIGHTS), 2, generator) for _ in range(6000)])
    assert chi_square(counted(index), sequence_probabilities(WEIGHTS, 2)) > ACCEPT


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_the_temperature_divides_log_weights(temperature):
    index = successive(logs(WEIGHTS), 2, seeded(1), temperature=temperature, draws=RUNS)
    exact = sequence_probabilities([w ** (1 / temperature) for w in WEIGHTS], 2)
    assert chi_square(counted(index), exact) > ACCEPT


@pytest.mark.parametrize("temperature", [1e-8, 1e-10, 1e-15, 1e-100, 1e-300, 5e-324])
def test_a_tiny_temperature_is_greedy_and_breaks_ties_at_random(temperature):
    preference = torch.tensor([0.5, 1.0, 0.5, 0.0, 1.0, 0.5], dtype=torch.float64)
    index = successive(preference, 4, seeded(2), temperature=temperature, draws=RUNS)
    exact = {
        (*first, *second): 1 / 12
        for first in ((1, 4), (4, 1))
        for second in ((0, 2), (0, 5), (2, 0), (2, 5), (5, 0), (5, 2))
    }
    assert chi_square(counted(index), exact) > ACCEPT


@pytest.mark.parametrize("temperature", [1e20, 1e300, 1.7e308])
def test_a_huge_temperature_is_uniform(temperature):
    preference = torch.tensor([0.0, 1.0, 0.3, 0.9], dtype=torch.float64)
    index = successive(preference, 2, seeded(), temperature=temperature, draws=RUNS)
    assert chi_square(counted(index), sequence_probabilities([1.0] * 4, 2)) > ACCEPT


def test_both_ways_of_ordering_agree(monkeypatch):
    preference = torch.rand(300, generator=seeded(), dtype=torch.float64)
    given = successive_with_inclusion(
        preference, 20, seeded(), temperature=0.1, draws=50
    )
    monkeypatch.setattr(weighted, "_RESOLVED", 0.0)
    exact = successive_with_inclusion(
        preference, 20, seeded(), temperature=0.1, draws=50
    )
    assert torch.equal(given[0], exact[0])
    assert torch.equal(given[1], exact[1])


def test_infinite_preferences_come_first_and_last():
    preference = torch.tensor([0.1, inf, -inf, 0.1, inf, -inf], dtype=torch.float64)
    index = successive(preference, 6, seeded(), temperature=0.1, draws=RUNS)
    exact = {
        (*a, *b, *c): 1 / 8
        for a in ((1, 4), (4, 1))
        for b in ((0, 3), (3, 0))
        for c in ((2, 5), (5, 2))
    }
    assert chi_square(counted(index), exact) > ACCEPT


@pytest.mark.parametrize("every", [inf, -inf])
def test_rows_that_are_all_infinite_have_equal_chances(every):
    preference = torch.full((4,), every, dtype=torch.float64)
    index = successive(preference, 2, seeded(), draws=RUNS)
    assert chi_square(counted(index), sequence_probabilities([1.0] * 4, 2)) > ACCEPT
    assert probabilities(preference).tolist() == [0.25] * 4


def test_rows_of_a_draw_are_distinct_and_given_by_the_seed():
    preference = torch.randn(50, generator=seeded(), dtype=torch.float64)
    before = preference.clone()
    index = successive(preference, 30, seeded(3), draws=40)
    assert all(len(set(drawn)) == 30 for drawn in index.tolist())
    assert torch.equal(index, successive(preference, 30, seeded(3), draws=40))
    assert not torch.equal(index, successive(preference, 30, seeded(4), draws=40))
    assert torch.equal(preference, before)


def test_no_rows_and_too_many():
    generator = seeded()
    assert successive(logs(WEIGHTS), 0, generator, draws=3).shape == (3, 0)
    index, inclusion = successive_with_inclusion(logs(WEIGHTS), 0, generator)
    assert index.shape == inclusion.shape == (1, 0)
    assert torch.equal(generator.get_state(), seeded().get_state())
    with pytest.raises(ValueError, match="6 rows asked for without replacement of 5"):
        successive(logs(WEIGHTS), 6, generator)


# Inclusion given the arrival of the first row left out


@pytest.mark.parametrize(
    ("rates", "n"),
    [
        ([0.5, 0.3, 0.2], 1),
        ([0.4, 0.1, 0.3, 0.2], 2),
        (WEIGHTS, 3),
        ([3.0, 0.05, 1.0, 7.0], 2),
        ([1.0, 1.0, 1.0], 2),
    ],
)
def test_inclusion_corrects_every_sum_without_bias(rates, n, monkeypatch):
    """E[Σ f_i / q_i] = Σ f_i: for each row, the expectation of 1/q_i where drawn is 1."""
    numbers, chance, subsets = every_race(rates, n)
    # The races are all there are: they have the probabilities of the sequences.
    for subset, exact in subset_probabilities(rates, n).items():
        mine = torch.tensor([s == subset for s in subsets])
        assert float(chance[mine].sum()) == pytest.approx(exact, abs=1e-9)
    monkeypatch.setattr(weighted, "_log_exponentials", lambda *_: numbers.log())
    index, inclusion = successive_with_inclusion(
        logs(rates), n, seeded(), draws=len(numbers)
    )
    assert [tuple(sorted(drawn)) for drawn in index.tolist()] == subsets
    total = torch.zeros(len(rates), dtype=torch.float64)
    total.index_add_(0, index.flatten(), (chance[:, None] / inclusion).flatten())
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-8)


def test_inclusion_is_the_formula_and_draws_are_those_without_it():
    preference = torch.randn(9, generator=seeded(1), dtype=torch.float64)
    index, inclusion = successive_with_inclusion(
        preference, 4, seeded(2), temperature=0.7, draws=20
    )
    assert torch.equal(
        index, successive(preference, 4, seeded(2), temperature=0.7, draws=20)
    )
    clock = weighted._log_exponentials(20, 9, seeded(2)).exp()
    rate = (preference / 0.7).exp()
    threshold = (clock / rate).sort(dim=1).values[:, 4:5]
    expected = 1 - (-rate[index] * threshold).exp()
    torch.testing.assert_close(inclusion, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("temperature", [1e-300, 1e-12])
def test_inclusion_at_a_tiny_temperature(temperature):
    preference = torch.tensor([0.5, 1.0, 0.5, 0.5, 0.0], dtype=torch.float64)
    index, inclusion = successive_with_inclusion(
        preference, 2, seeded(), temperature=temperature, draws=RUNS
    )
    assert (index[:, 0] == 1).all()
    assert (inclusion[:, 0] == 1).all()
    # One of three alike: the mean of 1/q where row 0 is drawn, P = 1/3, is 1/P.
    mine = index[:, 1] == 0
    estimate = (mine / inclusion[:, 1]).mean()
    error = (mine / inclusion[:, 1]).std() / RUNS**0.5
    assert abs(estimate - 1) < 5 * error


def test_inclusion_is_sure_where_nothing_of_the_kind_is_left_out():
    preference = torch.tensor([inf, 0.0, 1.0, -inf, -inf, inf], dtype=torch.float64)
    for n, sure in ((6, 6), (5, 4), (4, 4), (3, 2), (2, 2), (1, 0)):
        _, inclusion = successive_with_inclusion(preference, n, seeded(), draws=50)
        assert inclusion.shape == (50, n)
        assert (inclusion[:, :sure] == 1).all()
        assert (inclusion[:, sure:] < 1).all()
        assert (inclusion > 0).all()


# With replacement


def test_with_replacement_by_probability():
    probability = torch.tensor([0.0, 0.4, 0.0, 0.1, 0.5, 0.0], dtype=torch.float64)
    index = with_replacement(probability, RUNS, seeded())
    exact = {1: 0.4, 3: 0.1, 4: 0.5}
    assert chi_square(Counter(index.tolist()), exact) > ACCEPT
    pairs = counted(index.view(-1, 2))
    assert chi_square(
        pairs, {(a, b): exact[a] * exact[b] for a in exact for b in exact}
    )


def test_with_replacement_never_leaves_the_rows(monkeypatch):
    probability = torch.full((10,), 0.1, dtype=torch.float64)
    last = torch.full((1,), 1 - 2.0**-53, dtype=torch.float64)
    for point, row in ((last, 9), (torch.zeros_like(last), 0)):
        monkeypatch.setattr(torch, "rand", lambda *_, point=point, **__: point)
        assert with_replacement(probability, 1, seeded()).tolist() == [row]
    never = torch.tensor([0.0, 1.0], dtype=torch.float64)  # the point is 0 still
    assert with_replacement(never, 1, seeded()).tolist() == [1]


# Probabilities


def test_probabilities_are_shares_of_the_weights():
    preference = logs([4.0, 1.0, 0.0, 5.0])
    torch.testing.assert_close(
        probabilities(preference), torch.tensor([0.4, 0.1, 0.0, 0.5]).double()
    )
    squared = probabilities(preference, temperature=0.5)
    torch.testing.assert_close(squared, torch.tensor([16.0, 1, 0, 25]).double() / 42)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1.0, 1.7e308])
def test_probabilities_of_infinite_preferences(temperature):
    first = torch.tensor([inf, 1.0, -inf, inf], dtype=torch.float64)
    assert probabilities(first, temperature).tolist() == [0.5, 0, 0, 0.5]
    last = torch.tensor([1.0, -inf, 1.0], dtype=torch.float64)
    assert probabilities(last, temperature).tolist() == [0.5, 0, 0.5]
    assert probabilities(last[:0]).tolist() == []
