"""Tests of avalanche_ext/storage/reservoir.py: what is kept, and how likely.

The reference is the paper's definition written out: a list and a die (Vitter 1985,
algorithm R).
"""

import itertools
import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inclusion import (
    ACCEPT,
    REJECT,
    chi_square,
    each_included,
    feed,
    inclusion,
    pair_inclusion,
    stored,
    uniform_subsets,
)
from scipy import stats

from avalanche_ext.storage import MultiStrategyBuffer, fast_reservoir_sampling

# --- algorithm R --------------------------------------------------------------------


def algorithm_r(n, k, rng, off_by=0):
    """Vitter's algorithm R: sample t takes slot j ~ U{0 … t−1} if j < k (t from 1)."""
    reservoir = []
    for t in range(1, n + 1):
        if t <= k:
            reservoir.append(t - 1)
        else:
            slot = rng.randrange(t + off_by)
            if slot < k:
                reservoir[slot] = t - 1
    return tuple(sorted(reservoir))


def reservoirs(n, k, sizes, runs):
    """The stored sets of `runs` buffers with seeds 0, 1, …"""
    return [
        stored(feed(MultiStrategyBuffer(k, seed=seed), [0] * n, sizes))
        for seed in range(runs)
    ]


def references(n, k, runs, off_by=0):
    rng = random.Random(0)
    return [algorithm_r(n, k, rng, off_by) for _ in range(runs)]


@pytest.mark.parametrize(
    "sizes", [(1,), (7,), (3, 4), (2, 5), (5, 2), (1, 4, 2)], ids=str
)
def test_reservoir_every_subset_equally_likely(sizes):
    """All 35 subsets, so every inclusion probability, single or joint, is right."""
    sets = reservoirs(7, 3, sizes, 1400)
    assert chi_square(Counter(sets), uniform_subsets(7, 3)) > ACCEPT


def test_subset_check_accepts_algorithm_r_and_rejects_off_by_one():
    def p_value(off_by):
        sets = references(7, 3, 1400, off_by)
        return chi_square(Counter(sets), uniform_subsets(7, 3))

    assert p_value(0) > ACCEPT
    assert p_value(-1) < REJECT
    assert p_value(1) < REJECT
    assert p_value(2) < REJECT


CASES = [
    # n, k, batch sizes, runs
    (25, 1, (1, 6, 3), 1500),
    (9, 8, (4, 5), 1000),
    (12, 4, (5, 1, 3), 1500),
    (60, 10, (7, 10, 1, 25), 500),
]


@pytest.mark.parametrize(("n", "k", "sizes", "runs"), CASES, ids=str)
def test_reservoir_inclusion_probability(n, k, sizes, runs):
    sets = reservoirs(n, k, sizes, runs)
    assert all(len(set(s)) == k for s in sets)
    assert inclusion(sets, n, k) > ACCEPT
    if k > 1:
        assert pair_inclusion(sets, n, k) > ACCEPT


@pytest.mark.parametrize(("n", "k", "runs"), [(c[0], c[1], c[3]) for c in CASES[:3]])
def test_inclusion_check_accepts_algorithm_r_and_rejects_off_by_one(n, k, runs):
    runs *= 3
    assert inclusion(references(n, k, runs), n, k) > ACCEPT
    assert inclusion(references(n, k, runs, off_by=-1), n, k) < REJECT
    assert inclusion(references(n, k, runs, off_by=2), n, k) < REJECT


def test_pair_check_rejects_right_marginals_with_wrong_pairs():
    """A block of neighbours holds each sample with probability k/n, but not pairs."""
    rng = random.Random(0)
    n, k = 12, 4
    starts = [rng.randrange(n) for _ in range(1500)]
    blocks = [tuple((start + i) % n for i in range(k)) for start in starts]
    counts = Counter(itertools.chain.from_iterable(blocks))
    assert all(abs(counts[i] / 1500 - k / n) < 0.05 for i in range(n))
    assert pair_inclusion(blocks, n, k) < REJECT
    assert pair_inclusion(references(n, k, 1500), n, k) > ACCEPT


@given(
    k=st.integers(1, 12),
    n=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_reservoir_keeps_all_until_full(k, n, sizes, seed):
    buffer = feed(MultiStrategyBuffer(k, seed=seed), [0] * n, sizes)
    assert len(buffer) == min(n, k)
    assert buffer.seen == n
    assert len(set(stored(buffer))) == min(n, k)
    if n <= k:
        assert stored(buffer) == tuple(range(n))


def test_reservoir_one_batch_longer_than_the_memory():
    """Within one batch later rows can throw out earlier ones, k/n still holds."""
    sets = reservoirs(30, 5, (30,), 1000)
    assert inclusion(sets, 30, 5) > ACCEPT
    assert pair_inclusion(sets, 30, 5) > ACCEPT


@pytest.mark.parametrize("sizes", [(10,), (6000,), (1, 999, 3000)], ids=str)
def test_reservoir_on_a_long_stream(sizes):
    """Positions in sixty cells: nothing happens where decisions drawn ahead run out."""
    n, k, cells, runs = 6000, 120, 60, 25
    counts = Counter()
    for seed in range(runs):
        buffer = feed(MultiStrategyBuffer(k, seed=seed), [0] * n, sizes)
        counts.update(i * cells // n for i in stored(buffer))
    expected = runs * k / cells
    statistic = sum((counts[c] - expected) ** 2 / expected for c in range(cells))
    # Cells of one draw without replacement are multivariate hypergeometric.
    assert stats.chi2.sf(statistic * (n - 1) / (n - k), cells - 1) > ACCEPT


def test_reservoir_shrunk_stays_uniform():
    """A uniform subset of a uniform subset is uniform, and the stream goes on."""
    sets = []
    for seed in range(1400):
        buffer = feed(MultiStrategyBuffer(4, seed=seed), [0] * 6, (2, 3))
        buffer.resize(None, 2)
        assert len(buffer) == 2
        sets.append(stored(feed(buffer, [0] * 2, (2,), start=6)))
    assert chi_square(Counter(sets), uniform_subsets(8, 2)) > ACCEPT


def test_reservoir_evicts_uniformly():
    sets = []
    for seed in range(1000):
        buffer = feed(MultiStrategyBuffer(4, seed=seed), [0] * 6, (2, 3))
        buffer.evict(2)
        assert len(buffer) == 2
        sets.append(stored(buffer))
    assert chi_square(Counter(sets), uniform_subsets(6, 2)) > ACCEPT


@pytest.mark.parametrize("sizes", [(1,), (3, 2), (8,)], ids=str)
def test_reservoir_newcomers_after_an_eviction(sizes):
    """Each still k/N; those from before, thinned by the eviction, no more than that."""
    sets = []
    for seed in range(1500):
        buffer = feed(MultiStrategyBuffer(4, seed=seed), [0] * 8, (3,))
        buffer.evict(2)
        sets.append(stored(feed(buffer, [0] * 8, sizes, start=8)))
    newcomer, older = 4 / 16, 4 / 16 * (4 - 2) / 4
    assert each_included(sets, [older] * 8 + [newcomer] * 8) > ACCEPT


@pytest.mark.parametrize("sizes", [(1,), (3, 2), (8,)], ids=str)
def test_reservoir_newcomers_after_growing(sizes):
    """The new k over N; those from before cannot come back."""
    sets = []
    for seed in range(1500):
        buffer = feed(MultiStrategyBuffer(3, seed=seed), [0] * 8, (3,))
        buffer.resize(None, 6)
        sets.append(stored(feed(buffer, [0] * 8, sizes, start=8)))
    assert each_included(sets, [3 / 16] * 8 + [6 / 16] * 8) > ACCEPT


def test_reservoir_evicted_before_it_was_full():
    """Row n ≤ k is kept for certain, also where a place before it is empty."""
    sets = []
    for seed in range(1500):
        buffer = feed(MultiStrategyBuffer(5, seed=seed), [0] * 3, (2,))
        buffer.evict(2)
        feed(buffer, [0] * 2, (1,), start=3)
        assert len(buffer) == 3
        assert {3, 4} <= set(stored(buffer))
        sets.append(stored(feed(buffer, [0] * 3, (2,), start=5)))
    assert each_included(sets, [5 / 8 / 3] * 3 + [5 / 8] * 5) > ACCEPT


def test_reservoir_ignores_labels():
    """The same seed and sizes give the same slots whatever the labels."""
    rng = random.Random(1)
    labels = [rng.randrange(4) for _ in range(50)]
    a = feed(MultiStrategyBuffer(7, seed=3), [0] * 50, (4, 9))
    b = feed(MultiStrategyBuffer(7, seed=3), labels, (4, 9))
    assert stored(a) == stored(b)


# --- algorithm L --------------------------------------------------------------------


def test_fast_reservoir_every_subset_equally_likely():
    sets = Counter(
        tuple(sorted(fast_reservoir_sampling(range(6), 3, seed=seed)))
        for seed in range(3000)
    )
    assert chi_square(sets, uniform_subsets(6, 3)) > ACCEPT


@pytest.mark.parametrize(("n", "k"), [(30, 1), (100, 5), (12, 11)])
def test_fast_reservoir_inclusion(n, k):
    sets = [fast_reservoir_sampling(range(n), k, seed=seed) for seed in range(2000)]
    assert all(len(set(s)) == k for s in sets)
    assert inclusion(sets, n, k) > ACCEPT


def algorithm_l(stream, k, rng, wrong=None):
    """Li's algorithm L (1994), to show that the check sees its usual mistakes."""
    stream = iter(stream)
    reservoir = list(itertools.islice(stream, k))
    w = math.exp(math.log(rng.random()) / k)
    while True:
        skip = math.floor(math.log(rng.random()) / math.log(1 - w))
        skip += {"skips one too many": 1}.get(wrong, 0)
        item = next(itertools.islice(stream, skip, None), None)
        if item is None:
            return tuple(sorted(reservoir))
        reservoir[rng.randrange(k)] = item
        if wrong != "w never shrinks":
            w *= math.exp(math.log(rng.random()) / k)


def test_fast_reservoir_check_rejects_wrong_samplers():
    def p_value(wrong):
        rng = random.Random(0)
        sets = Counter(algorithm_l(range(6), 3, rng, wrong) for _ in range(3000))
        return chi_square(sets, uniform_subsets(6, 3))

    assert p_value(None) > ACCEPT
    assert p_value("skips one too many") < REJECT
    assert p_value("w never shrinks") < REJECT


def test_fast_reservoir_takes_generators_once():
    taken = []

    def stream():
        for i in range(500):
            taken.append(i)
            yield i

    sample = fast_reservoir_sampling(stream(), 7, seed=0)
    assert taken == list(range(500))
    assert sample == fast_reservoir_sampling(range(500), 7, seed=0)
    assert sample == fast_reservoir_sampling(list(range(500)), 7, seed=0)


@pytest.mark.parametrize("n", [0, 1, 4, 5])
def test_fast_reservoir_shorter_streams_come_whole(n):
    assert fast_reservoir_sampling(iter(range(n)), 5, seed=0) == list(range(n))


def test_fast_reservoir_returns_the_objects_themselves():
    items = [object() for _ in range(50)] + [None, None, [1], {"a": 2}]
    for seed in range(20):
        sample = fast_reservoir_sampling(items, 10, seed=seed)
        assert type(sample) is list
        assert len(sample) == 10
        assert all(any(s is item for item in items) for s in sample)
    same = fast_reservoir_sampling(["a"] * 20, 4, seed=0)
    assert same == ["a"] * 4


@pytest.mark.parametrize("k", [0, -2])
def test_fast_reservoir_needs_a_positive_size(k):
    with pytest.raises(ValueError, match=str(k)) as error:
        fast_reservoir_sampling(range(5), k)
    assert "\n" not in str(error.value)


def test_fast_reservoir_seeds():
    def draw(seed):
        return fast_reservoir_sampling(range(1000), 10, seed=seed)

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    state = torch.get_rng_state()
    draw(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(11)
    first, second = draw(None), draw(None)
    torch.manual_seed(11)
    assert draw(None) == first
    assert first != second


def test_fast_reservoir_leaves_python_random_alone():
    state = random.getstate()
    fast_reservoir_sampling(range(1000), 10, seed=0)
    fast_reservoir_sampling(range(1000), 10)
    assert random.getstate() == state
