"""Tests of avalanche_ext/storage/uniform.py, through the buffer that draws.

Uniform draws without replacement are judged against exact probabilities with fixed
seeds; each check is shown to reject a sampler that is slightly wrong.
"""

import io
import itertools
import math
import random
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from avalanche_ext.storage import MultiStrategyBuffer

# A correct sampler fails one check in ten thousand, and those with our seeds pass.
ACCEPT = 1e-4
# A wrong one must be beyond doubt.
REJECT = 1e-7


def filled(n, seed=0, max_size=None, **options):
    """A buffer with rows 0 … n − 1; x holds the number of the row."""
    buffer = MultiStrategyBuffer(max_size or n, seed=seed, **options)
    add(buffer, n)
    return buffer


def add(buffer, n):
    first = buffer.seen
    x = torch.arange(first, first + n).unsqueeze(1)
    buffer.add(x, torch.arange(first, first + n) % 3)


def draw(buffer, m):
    """Indices of one draw, checked against the columns that came with them."""
    rows = buffer.sample(m)
    index = rows["index"]
    assert index.dtype == torch.int64
    assert index.shape == (min(m, len(buffer)),)
    assert torch.equal(rows["x"], buffer.table.column("x")[index])
    assert torch.equal(rows["y"], buffer.table.column("y")[index])
    assert torch.equal(rows["weight"], torch.ones(len(index)))
    index = index.tolist()
    assert len(set(index)) == len(index)
    assert all(0 <= i < len(buffer) for i in index)
    return index


# --- the statistics -----------------------------------------------------------------


def chi_square(observed, probability):
    """p-value of outcome counts under exact probabilities (Pearson's test)."""
    if any(outcome not in probability for outcome in observed):
        return 0.0
    runs = sum(observed.values())
    statistic = sum(
        (observed[outcome] - runs * p) ** 2 / (runs * p)
        for outcome, p in probability.items()
    )
    return float(stats.chi2.sf(statistic, len(probability) - 1))


def subsets(n, m):
    return dict.fromkeys(itertools.combinations(range(n), m), 1 / math.comb(n, m))


def inclusion(draws, n, m, cells=None):
    """p-value of "each of n rows is in an m-subset equally often".

    Rows are pooled into cells where they are many; the counts of one draw are then
    multivariate hypergeometric, so Σ(O − E)²/E · (n−1)/(n−m) is chi-square.
    """
    cells = cells or n
    counts = Counter(i * cells // n for drawn in draws for i in drawn)
    sizes = Counter(i * cells // n for i in range(n))
    statistic = 0.0
    for cell, size in sizes.items():
        expected = len(draws) * m * size / n
        statistic += (counts[cell] - expected) ** 2 / expected
    return float(stats.chi2.sf(statistic * (n - 1) / (n - m), cells - 1))


def pairs(draws, n, cells=8):
    """p-value of "any two rows are drawn together equally often".

    Of each draw one pair at random is looked at, so that pairs are independent: by
    the cells of its two rows, and by how close together they are.
    """
    rng = random.Random(0)
    chosen = [sorted(rng.sample(drawn, 2)) for drawn in draws]
    size = Counter(i * cells // n for i in range(n))
    total = math.comb(n, 2)
    by_cell = {
        (a, b): (math.comb(size[a], 2) if a == b else size[a] * size[b]) / total
        for a in range(cells)
        for b in range(a, cells)
        if a != b or size[a] > 1
    }
    cell_p = chi_square(
        Counter((a * cells // n, b * cells // n) for a, b in chosen), by_cell
    )
    gap = max(1, n // 20)
    close = sum(n - d for d in range(1, gap + 1)) / total
    seen = sum(b - a <= gap for a, b in chosen)
    gap_p = stats.binomtest(seen, len(chosen), close).pvalue
    return min(1.0, 2 * min(cell_p, gap_p))


# --- uniformity ---------------------------------------------------------------------

# n rows, m drawn, cells: small ones by every subset, large ones by rows and pairs.
LARGE = [(500, 10, None), (200, 128, None), (5000, 10, 200), (40, 39, None)]


@pytest.mark.parametrize(("n", "m"), [(5, 3), (6, 1), (4, 3), (7, 2)])
def test_every_subset_equally_likely(n, m):
    buffer = filled(n)
    draws = [tuple(sorted(draw(buffer, m))) for _ in range(1500)]
    assert chi_square(Counter(draws), subsets(n, m)) > ACCEPT


@pytest.mark.parametrize(("n", "m", "cells"), LARGE)
def test_rows_and_pairs_equally_likely(n, m, cells):
    buffer = filled(n)
    draws = [draw(buffer, m) for _ in range(1200)]
    assert inclusion(draws, n, m, cells) > ACCEPT
    assert pairs(draws, n) > ACCEPT


def test_successive_draws_are_independent():
    """The subset drawn says nothing about the next, nor about the one after it."""
    buffer = filled(5)
    draws = [tuple(sorted(draw(buffer, 2))) for _ in range(4000)]
    one = subsets(5, 2)
    two = {(a, b): 1 / 100 for a in one for b in one}
    for lag in (1, 2, 3):
        following = list(zip(draws, draws[lag:], strict=False))
        # Every other pair of neighbours, so that the pairs themselves are independent.
        apart = [p for i, p in enumerate(following) if (i // lag) % 2 == 0]
        assert chi_square(Counter(apart), two) > ACCEPT


def test_seeds_are_independent():
    """The first draw of many buffers, one seed each."""
    draws = [tuple(sorted(draw(filled(5, seed=s), 3))) for s in range(1000)]
    assert chi_square(Counter(draws), subsets(5, 3)) > ACCEPT


def test_checks_reject_wrong_samplers():
    rng = random.Random(0)

    def many(sampler, runs=1500):
        return [sampler() for _ in range(runs)]

    def right(n, m):
        return lambda: rng.sample(range(n), m)

    def never_the_last(n, m):
        return lambda: rng.sample(range(n - 1), m)

    def block(n, m):
        start = rng.randrange(n)
        return [(start + i) % n for i in range(m)]

    def half(n, m):
        """All from one half: rows are equally likely, pairs are not."""
        first = rng.randrange(2) * (n // 2)
        return [first + i for i in rng.sample(range(n // 2), m)]

    def shift(n, m):
        """Half of the draws repeat the one before them."""
        previous = [rng.sample(range(n), m)]

        def sampler():
            if rng.random() < 0.5:
                previous[0] = rng.sample(range(n), m)
            return previous[0]

        return sampler

    def subset_p(sampler):
        return chi_square(Counter(tuple(sorted(d)) for d in many(sampler)), five)

    five = subsets(5, 3)
    assert subset_p(right(5, 3)) > ACCEPT
    assert subset_p(never_the_last(5, 3)) < REJECT
    assert subset_p(lambda: block(5, 3)) < REJECT
    for n, m, cells in LARGE:
        draws = many(right(n, m))
        assert inclusion(draws, n, m, cells) > ACCEPT
        assert pairs(draws, n) > ACCEPT
    assert inclusion(many(never_the_last(40, 30)), 40, 30) < REJECT
    assert pairs(many(lambda: block(500, 10)), 500) < REJECT
    assert pairs(many(lambda: half(500, 10)), 500) < REJECT
    repeats = many(shift(500, 10))
    assert inclusion(repeats, 500, 10) < REJECT


# --- a memory that changes ----------------------------------------------------------


def test_uniform_while_the_memory_fills_and_after():
    """At every fill level, with draws of other sizes before it."""
    seen = {n: Counter() for n in (2, 3, 4, 5, 6)}
    later = Counter()
    for seed in range(600):
        buffer = MultiStrategyBuffer(6, seed=seed)
        add(buffer, 1)
        for n, counter in seen.items():
            add(buffer, 1)
            assert len(buffer) == n
            counter[tuple(sorted(draw(buffer, 2)))] += 1
        add(buffer, 5)
        draw(buffer, 4)
        later[tuple(sorted(draw(buffer, 2)))] += 1
    for n, counter in seen.items():
        assert n == 2 or chi_square(counter, subsets(n, 2)) > ACCEPT
    assert chi_square(later, subsets(6, 2)) > ACCEPT


def reload(buffer, target):
    file = io.BytesIO()
    torch.save(buffer.state_dict(), file)
    file.seek(0)
    target.load_state_dict(torch.load(file, weights_only=True))
    return target


CHANGES = {
    "evict": lambda b, s: b.evict(3),
    "resize": lambda b, s: b.resize(None, 5),
    "evict and refill": lambda b, s: (b.evict(5), add(b, 2)),
    "grow and fill": lambda b, s: (b.resize(None, 9), add(b, 1), b.evict(4)),
    "load a smaller one": lambda b, s: reload(filled(5, seed=1000 + s), b),
}


@pytest.mark.parametrize("change", CHANGES)
def test_uniform_after_a_change(change):
    """Draws made ahead for the memory as it was must not be used after it."""
    seen = defaultdict(Counter)
    for seed in range(800):
        buffer = filled(8, seed=seed)
        draw(buffer, 2)
        draw(buffer, 2)
        CHANGES[change](buffer, seed)
        assert len(buffer) < 8
        seen[len(buffer)][tuple(sorted(draw(buffer, 2)))] += 1
    for n, counter in seen.items():  # a refill hits an empty slot, or not
        if counter.total() >= 5 * math.comb(n, 2):
            assert chi_square(counter, subsets(n, 2)) > ACCEPT
    assert max(counter.total() for counter in seen.values()) >= 300


@given(data=st.data())
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_draws_fit_the_memory_after_any_change(data):
    """Distinct, in range, and rows as stored; whatever happened in between."""
    admission = data.draw(st.sampled_from(["reservoir", "ring", "class_balanced"]))
    buffer = MultiStrategyBuffer(8, admission=admission, seed=0)
    add(buffer, 1)
    for step in data.draw(st.lists(st.sampled_from("addsrel"), max_size=25)):
        if step == "a":
            add(buffer, data.draw(st.integers(1, 6)))
        elif step == "r":
            buffer.resize(None, data.draw(st.integers(3, 12)))
        elif step == "e" and len(buffer) > 1:
            buffer.evict(data.draw(st.integers(1, len(buffer) - 1)))
        elif step == "l":
            other = MultiStrategyBuffer(8, admission=admission, seed=1)
            buffer = reload(buffer, other)
        else:
            for _ in range(data.draw(st.integers(1, 4))):
                draw(buffer, data.draw(st.integers(1, 10)))


# --- sizes --------------------------------------------------------------------------


@pytest.mark.parametrize("m", [6, 7, 100])
def test_asking_for_more_gives_all_once(m):
    buffer = filled(6)
    for _ in range(5):
        assert sorted(draw(buffer, m)) == list(range(6))
    assert buffer.uses.tolist() == [5] * 6


def test_no_rows_asked_for():
    """Replay batch 0: nothing is drawn, and no random number is used."""
    one, other = filled(9), filled(9)
    rows = one.sample(0)
    assert rows.batch_size == (0,)
    assert rows["x"].shape == (0, 1)
    assert one.uses.sum() == 0
    assert [draw(one, 3) for _ in range(5)] == [draw(other, 3) for _ in range(5)]


def test_negative_number_is_refused():
    with pytest.raises(ValueError, match="-1") as error:
        filled(4).sample(-1)
    assert "\n" not in str(error.value)


def test_empty_memory_is_refused():
    with pytest.raises(ValueError, match="0") as error:
        MultiStrategyBuffer(4, seed=0).sample(2)
    assert "\n" not in str(error.value)


def test_sizes_can_change_from_draw_to_draw():
    buffer = filled(20)
    for m in [3, 1, 20, 7, 3, 50, 2, 19, 1]:
        draw(buffer, m)


@pytest.mark.parametrize("fill", [5, 30, 80], ids=["filling", "full", "beyond"])
def test_draw_is_the_index_of_sample(fill):
    """`draw` gives the slots alone, of the same draws, and counts them as used."""
    one, other = (MultiStrategyBuffer(30, seed=3) for _ in range(2))
    add(one, fill)
    add(other, fill)
    for m in (4, 4, 2, 31, 4):
        assert one.draw(m).index.tolist() == other.sample(m)["index"].tolist()
    assert torch.equal(one.uses, other.uses)


# --- seeds --------------------------------------------------------------------------


def run(seed):
    buffer = MultiStrategyBuffer(12, seed=seed)
    result = []
    for _ in range(12):
        add(buffer, 3)
        result += [draw(buffer, 4), draw(buffer, 4)]
    return result


def test_same_seed_same_draws():
    assert run(5) == run(5)
    assert run(5) != run(6)


def test_seeded_buffer_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    run(5)
    buffer = filled(10)
    buffer.evict(2)
    buffer.resize(None, 4)
    draw(buffer, 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_global_generator_does_not_disturb_a_seeded_buffer():
    expected = run(5)
    torch.manual_seed(123)
    torch.rand(7)
    assert run(5) == expected


def test_without_a_seed_the_global_generator_decides():
    torch.manual_seed(1)
    first = run(None)
    second = run(None)
    torch.manual_seed(1)
    assert run(None) == first
    assert first != second
    # Drawn once, on construction: what happens to it later changes nothing.
    torch.manual_seed(1)
    buffer = MultiStrategyBuffer(12)
    torch.manual_seed(99)
    result = []
    for _ in range(12):
        add(buffer, 3)
        result += [draw(buffer, 4), draw(buffer, 4)]
    assert result == first
