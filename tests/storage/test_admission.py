"""Tests of avalanche_ext/storage/admission.py: what is kept, and how likely.

The references are the papers' definitions written out: a list and a die for the
reservoir (Vitter 1985, algorithm R), a queue per class for the ring (Chaudhry et al.
2019), and for class balance (Chrysakis & Moens 2020, Algorithm 1) every outcome of
every die with its exact probability. Statistical checks use fixed seeds, so they give
the same answer in every run; each is shown to reject a sampler that is slightly wrong.
"""

import itertools
import math
import random
from collections import Counter, defaultdict, deque
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from avalanche_ext.storage import MultiStrategyBuffer, fast_reservoir_sampling

# A correct sampler fails one check in ten thousand, and those with our seeds pass.
ACCEPT = 1e-4
# A wrong one must be beyond doubt.
REJECT = 1e-7


# --- feeding a buffer ---------------------------------------------------------------


def cut(n, sizes):
    """Slices of 0..n of the given sizes, over and over."""
    start = 0
    for size in itertools.cycle(sizes):
        if start >= n:
            return
        yield slice(start, min(n, start + size))
        start += size


def feed(buffer, labels, sizes=(1,), start=0):
    """Offer samples start, start + 1, … (x holds the number) in batches."""
    y = torch.tensor(labels)
    x = torch.arange(start, start + len(labels)).unsqueeze(1)
    for part in cut(len(labels), sizes):
        buffer.add(x[part], y[part])
    return buffer


def stored(buffer):
    """The numbers of the samples in memory, sorted."""
    if len(buffer) == 0:
        return ()
    return tuple(sorted(buffer.table.column("x")[:, 0].tolist()))


def stored_by_class(buffer):
    result = defaultdict(list)
    y = buffer.table.column("y").tolist()
    for number, label in zip(buffer.table.column("x")[:, 0].tolist(), y, strict=True):
        result[label].append(number)
    return {label: sorted(numbers) for label, numbers in result.items()}


# --- the statistics -----------------------------------------------------------------


def chi_square(observed, probability):
    """p-value of outcome counts under exact probabilities (Pearson's test).

    Outcomes that cannot happen fail at once; rare ones share a cell.
    """
    if any(not probability.get(outcome) for outcome in observed):
        return 0.0
    runs = sum(observed.values())
    cells, rest_seen, rest_expected = [], 0, 0.0
    for outcome, p in probability.items():
        expected = runs * float(p)
        if expected < 5:
            rest_seen += observed[outcome]
            rest_expected += expected
        else:
            cells.append((observed[outcome], expected))
    if rest_expected >= 1:
        cells.append((rest_seen, rest_expected))
    if len(cells) == 1:
        return 1.0
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    return float(stats.chi2.sf(statistic, len(cells) - 1))


def uniform_subsets(n, k):
    return dict.fromkeys(itertools.combinations(range(n), k), 1 / math.comb(n, k))


def inclusion(sets, n, k):
    """p-value of "each of n is in the k-subset with probability k/n".

    The n counts of R subsets add up to R·k, which makes them negatively correlated:
    Σ(O − Rp)² / (R·p(1−p)) · (n−1)/n is chi-square with n − 1 degrees of freedom.
    """
    counts = Counter(itertools.chain.from_iterable(sets))
    runs, p = len(sets), k / n
    spread = sum((counts[i] - runs * p) ** 2 for i in range(n))
    statistic = spread / (runs * p * (1 - p)) * (n - 1) / n
    return float(stats.chi2.sf(statistic, n - 1))


def pair_inclusion(sets, n, k):
    """p-value of "each pair is in with probability k(k−1)/(n(n−1))" (Bonferroni)."""
    counts = Counter(
        itertools.chain.from_iterable(
            itertools.combinations(sorted(s), 2) for s in sets
        )
    )
    p = k * (k - 1) / (n * (n - 1))
    worst = min(
        stats.binomtest(counts[pair], len(sets), p).pvalue
        for pair in itertools.combinations(range(n), 2)
    )
    return min(1.0, worst * math.comb(n, 2))


# --- reservoir ----------------------------------------------------------------------


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


def each_included(sets, probabilities):
    """p-value of every sample's own inclusion probability (Bonferroni)."""
    counts = Counter(itertools.chain.from_iterable(sets))
    worst = min(
        stats.binomtest(counts[i], len(sets), p).pvalue
        for i, p in enumerate(probabilities)
    )
    return min(1.0, worst * len(probabilities))


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


# --- ring ---------------------------------------------------------------------------


def ring_reference(labels, max_size, per_class=None):
    """A queue per class; the quotas of the definition, sample by sample."""
    queues = {}  # in the order in which classes were first seen
    for number, label in enumerate(labels):
        queues.setdefault(label, deque()).append(number)
        share, rest = divmod(max_size, len(queues))
        for place, queue in enumerate(queues.values()):
            adaptive = share + (place < rest)
            while len(queue) > (adaptive if per_class is None else per_class):
                queue.popleft()
    return {label: list(queue) for label, queue in queues.items()}


STREAM = st.lists(st.integers(0, 4), min_size=1, max_size=50)
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=5)
RING = settings(max_examples=80, deadline=None, derandomize=True, database=None)


def test_ring_reference_by_hand():
    # One class: 5; two: 3 + 2; three: 2 + 2 + 1.
    assert ring_reference([7] * 6, 5) == {7: [1, 2, 3, 4, 5]}
    assert ring_reference([7] * 6 + [2], 5) == {7: [3, 4, 5], 2: [6]}
    labels = [7] * 6 + [2] * 3 + [0] * 2
    assert ring_reference(labels, 5) == {7: [4, 5], 2: [7, 8], 0: [10]}
    assert ring_reference(labels, 50, per_class=2) == {7: [4, 5], 2: [7, 8], 0: [9, 10]}


@given(labels=STREAM, sizes=SIZES, max_size=st.integers(5, 17))
@RING
def test_ring_adaptive_equals_queues(labels, sizes, max_size):
    buffer = MultiStrategyBuffer(max_size, admission="ring", seed=0)
    offered = 0
    for part in cut(len(labels), sizes):
        feed(buffer, labels[part], (len(labels[part]),), start=offered)
        offered = part.stop
        expected = ring_reference(labels[:offered], max_size)
        assert stored_by_class(buffer) == expected
        assert buffer.class_counts() == {c: len(q) for c, q in expected.items()}
        assert len(buffer) <= max_size


@given(labels=STREAM, sizes=SIZES, per_class=st.integers(1, 6))
@RING
def test_ring_per_class_equals_queues(labels, sizes, per_class):
    max_size = 5 * per_class
    buffer = MultiStrategyBuffer(
        max_size, admission="ring", per_class=per_class, seed=0
    )
    feed(buffer, labels, sizes)
    assert stored_by_class(buffer) == ring_reference(labels, max_size, per_class)


@given(
    labels=STREAM, sizes=SIZES, per_class=st.integers(1, 8), max_size=st.integers(5, 12)
)
@RING
def test_ring_per_class_never_exceeds_either_bound(labels, sizes, per_class, max_size):
    """Where classes × per_class is more than the memory, the memory decides."""
    buffer = MultiStrategyBuffer(
        max_size, admission="ring", per_class=per_class, seed=0
    )
    offered = 0
    for part in cut(len(labels), sizes):
        feed(buffer, labels[part], (len(labels[part]),), start=offered)
        offered = part.stop
        assert len(buffer) <= max_size
        kept = stored_by_class(buffer)
        assert set(kept) == set(labels[:offered])
        for label, numbers in kept.items():
            all_of_class = [i for i in range(offered) if labels[i] == label]
            assert len(numbers) <= per_class
            assert numbers == all_of_class[-len(numbers) :]


def test_ring_new_class_in_the_middle_of_a_batch():
    buffer = MultiStrategyBuffer(6, admission="ring", seed=0)
    feed(buffer, [3] * 6, (6,))
    feed(buffer, [3, 3, 8, 3, 8, 8, 8], (7,), start=6)
    # Three rows a class: the last three of each.
    assert stored_by_class(buffer) == {3: [6, 7, 9], 8: [10, 11, 12]}


def test_ring_does_not_depend_on_the_seed():
    labels = [i % 3 for i in range(40)]
    kept = {
        stored(feed(MultiStrategyBuffer(7, admission="ring", seed=s), labels, (6,)))
        for s in range(5)
    }
    assert len(kept) == 1


@pytest.mark.parametrize("admission", ["ring", "class_balanced"])
@pytest.mark.parametrize("sizes", [(1,), (6,)], ids=str)
def test_memory_smaller_than_the_classes_is_refused(admission, sizes):
    buffer = MultiStrategyBuffer(2, admission=admission, seed=0)
    with pytest.raises(ValueError, match="3") as error:
        feed(buffer, [0, 0, 1, 1, 2, 2], sizes)
    assert "2" in str(error.value)
    assert "\n" not in str(error.value)
    # What was refused left no trace.
    assert len(buffer) <= 2
    assert 2 not in buffer.class_counts()


@pytest.mark.parametrize("admission", ["ring", "class_balanced"])
def test_resize_below_the_classes_is_refused(admission):
    buffer = MultiStrategyBuffer(6, admission=admission, seed=0)
    feed(buffer, [0, 1, 2] * 4, (5,))
    before = stored(buffer)
    with pytest.raises(ValueError, match="2") as error:
        buffer.resize(None, 2)
    assert "3" in str(error.value)
    assert (buffer.max_size, buffer.table.capacity) == (6, 6)
    assert stored(buffer) == before


@given(labels=STREAM, sizes=SIZES, old=st.integers(5, 15), new=st.integers(5, 15))
@RING
def test_ring_resized_equals_queues(labels, sizes, old, new):
    """Quotas follow the size: at once for what is too much, with the stream for room.

    Rows that had to go cannot come back, so after a stream through which every class
    is filled again nothing tells the resized ring from one of that size.
    """
    buffer = MultiStrategyBuffer(old, admission="ring", seed=0)
    feed(buffer, labels, sizes)
    before = ring_reference(labels, old)
    share, rest = divmod(new, len(before))
    buffer.resize(None, new)
    assert stored_by_class(buffer) == {
        label: rows[-(share + (place < rest)) :]
        for place, (label, rows) in enumerate(before.items())
    }
    classes = list(dict.fromkeys(labels))
    more = classes * 15
    feed(buffer, more, sizes, start=len(labels))
    assert stored_by_class(buffer) == ring_reference(labels + more, new)


@given(labels=STREAM, n=st.integers(1, 9), max_size=st.integers(5, 12))
@RING
def test_ring_evicts_the_oldest_of_the_largest(labels, n, max_size):
    """One row at a time from a largest class; every class keeps its latest rows."""
    buffer = MultiStrategyBuffer(max_size, admission="ring", seed=0)
    feed(buffer, labels, (7,))
    if n >= len(buffer):
        return
    before = stored_by_class(buffer)
    sizes = [len(numbers) for numbers in before.values()]
    for _ in range(n):
        sizes[sizes.index(max(sizes))] -= 1
    buffer.evict(n)
    after = stored_by_class(buffer)
    assert sorted(map(len, after.values())) == sorted(s for s in sizes if s)
    for label, numbers in after.items():
        assert numbers == before[label][-len(numbers) :]


def test_class_balanced_evicts_from_the_largest():
    """Random rows of the largest classes, so classes come closer together."""
    labels = [0] * 6 + [1] * 3 + [2]
    sets = []
    for seed in range(800):
        buffer = MultiStrategyBuffer(10, admission="class_balanced", seed=seed)
        feed(buffer, labels, (4,))
        buffer.evict(5)
        assert sorted(buffer.class_counts().values()) == [1, 2, 2]
        assert buffer.class_counts()[2] == 1
        sets.append(stored(buffer))
    assert each_included(sets, [2 / 6] * 6 + [2 / 3] * 3) > ACCEPT


# --- class balance ------------------------------------------------------------------


def cbrs_exact(labels, k):
    """Exact distribution of the stored set under class-balancing reservoir sampling.

    Follows every outcome of every draw of Algorithm 1, with its probability. A class
    is *full* from the moment at which it is (one of) the largest in a filled memory.
    """
    states = {(frozenset(), frozenset()): Fraction(1)}
    for number in range(len(labels)):
        after = defaultdict(Fraction)
        for (kept, full), p in states.items():
            for new, share in cbrs_step(kept, full, number, labels, k):
                counts = Counter(labels[i] for i in new)
                top = max(counts.values())
                largest = {c for c, m in counts.items() if m == top}
                now_full = full | largest if len(new) == k else full
                after[new, frozenset(now_full)] += p * share
        states = after
    result = defaultdict(Fraction)
    for (kept, _), p in states.items():
        result[tuple(sorted(kept))] += p
    return dict(result)


def cbrs_step(kept, full, number, labels, k):
    """The next stored sets, with their probabilities, when `number` arrives."""
    label = labels[number]
    if len(kept) < k:
        return [(kept | {number}, Fraction(1))]
    counts = Counter(labels[i] for i in kept)
    if label in full:
        seen = sum(other == label for other in labels[: number + 1])
        victims = [i for i in kept if labels[i] == label]
        chance = Fraction(len(victims), seen)
    else:
        top = max(counts.values())
        victims = [i for i in kept if counts[labels[i]] == top]
        chance = Fraction(1)
    replaced = [(kept - {i} | {number}, chance / len(victims)) for i in victims]
    return [*replaced, (kept, 1 - chance)] if chance < 1 else replaced


def cbrs_counts_exact(labels, k):
    """Exact distribution of the rows per class: the same, without the identities."""
    classes = sorted(set(labels))
    states = {((0,) * len(classes), frozenset()): Fraction(1)}
    for label in labels:
        c = classes.index(label)
        after = defaultdict(Fraction)
        for (counts, full), p in states.items():
            top = max(counts)
            if sum(counts) < k:
                moves = [(None, c)]
            elif c in full:
                moves = [(None, None)]  # replaces one of its own, if at all
            else:
                moves = [(v, c) for v, m in enumerate(counts) if m == top]
            for out, into in moves:
                new = list(counts)
                if into is not None:
                    new[into] += 1
                if out is not None:
                    new[out] -= 1
                largest = {i for i, m in enumerate(new) if m == max(new)}
                now_full = full | largest if sum(new) == k else full
                after[tuple(new), frozenset(now_full)] += p / len(moves)
        states = after
    result = defaultdict(Fraction)
    for (counts, _), p in states.items():
        result[counts] += p
    return dict(result)


def cbrs_simulated(labels, k, rng, wrong=None):
    """Algorithm 1 with a die; `wrong` breaks it in one of the usual ways."""
    memory, full, seen = [], set(), Counter()
    for number, label in enumerate(labels):
        if wrong != "newcomer not counted":
            seen[label] += 1
        counts = Counter(labels[i] for i in memory)
        if len(memory) < k:
            memory.append(number)
        elif label not in full:
            top = max(counts.values())
            largest = [c for c, m in counts.items() if m == top]
            if wrong == "lowest label of the largest":
                largest = [min(largest)]
            victims = [i for i in memory if labels[i] in largest]
            if wrong == "oldest of the largest":
                victims = victims[:1]
            memory[memory.index(rng.choice(victims))] = number
        elif rng.random() <= counts[label] / max(1, seen[label]):
            victims = [i for i in memory if labels[i] == label]
            memory[memory.index(rng.choice(victims))] = number
        if wrong == "newcomer not counted":
            seen[label] += 1
        counts = Counter(labels[i] for i in memory)
        if wrong == "forgets who was largest":
            full.clear()
        if len(memory) == k:
            top = max(counts.values())
            full |= {c for c, m in counts.items() if m == top}
    return tuple(sorted(memory))


SMALL = {
    "one class": ([0] * 8, 3),
    "rare class late": ([0, 0, 0, 0, 0, 1, 1, 1, 1], 4),
    "rare class first": ([1, 0, 0, 0, 0, 0, 1, 1, 1], 4),
    "mixed": ([0, 1, 0, 0, 2, 0, 0, 1, 0, 2, 2], 4),
    "ties": ([0, 1, 0, 1, 2, 2, 1, 0, 2, 0], 4),
    "a tie left open": ([0, 1, 0, 1, 2, 0, 1, 1, 0], 4),
    "as many classes as slots": ([0, 0, 1, 2, 0, 1, 2, 2], 3),
}


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.parametrize("sizes", [(1,), (3, 1, 2), (20,)], ids=str)
def test_class_balanced_every_stored_set(case, sizes):
    """Each set as likely as the definition says, however the stream is cut."""
    labels, k = SMALL[case]
    seen = Counter(
        stored(
            feed(
                MultiStrategyBuffer(k, admission="class_balanced", seed=seed),
                labels,
                sizes,
            )
        )
        for seed in range(700)
    )
    assert chi_square(seen, cbrs_exact(labels, k)) > ACCEPT


@pytest.mark.parametrize("case", SMALL)
def test_class_balanced_reference_agrees_with_a_die(case):
    labels, k = SMALL[case]
    rng = random.Random(0)
    seen = Counter(cbrs_simulated(labels, k, rng) for _ in range(2000))
    assert chi_square(seen, cbrs_exact(labels, k)) > ACCEPT


@pytest.mark.parametrize(
    ("wrong", "case"),
    [
        ("newcomer not counted", "one class"),
        ("oldest of the largest", "rare class late"),
        ("lowest label of the largest", "a tie left open"),
        ("forgets who was largest", "mixed"),
    ],
)
def test_class_balanced_check_rejects_wrong_samplers(wrong, case):
    labels, k = SMALL[case]
    rng = random.Random(0)
    seen = Counter(cbrs_simulated(labels, k, rng, wrong) for _ in range(700))
    assert chi_square(seen, cbrs_exact(labels, k)) < REJECT


def test_class_balanced_one_class_is_a_reservoir():
    exact = cbrs_exact([0] * 8, 3)
    assert exact == dict.fromkeys(uniform_subsets(8, 3), Fraction(1, math.comb(8, 3)))


def imbalanced(n=240, weights=(80, 13, 5, 2), seed=5):
    return random.Random(seed).choices(range(len(weights)), weights, k=n)


@pytest.mark.parametrize("sizes", [(10,), (1, 17, 60)], ids=str)
def test_class_balanced_on_a_long_imbalanced_stream(sizes):
    """Rows per class as in the definition; every row of a class as likely as another.

    Given the m rows stored of a class, its samples are a uniform m-subset, run by run:
    the counts' spread over Σ_r p_r(1−p_r) is chi-square, as for the reservoir.
    """
    labels, k, runs = imbalanced(), 24, 150
    seen_counts, seen_rows, spread = Counter(), Counter(), defaultdict(float)
    expected = defaultdict(float)
    per_class = Counter(labels)
    for seed in range(runs):
        buffer = MultiStrategyBuffer(k, admission="class_balanced", seed=seed)
        kept = stored_by_class(feed(buffer, labels, sizes))
        seen_counts[tuple(len(kept[c]) for c in sorted(per_class))] += 1
        for label, numbers in kept.items():
            seen_rows.update(numbers)
            p = len(numbers) / per_class[label]
            expected[label] += p
            spread[label] += p * (1 - p)
    assert chi_square(seen_counts, cbrs_counts_exact(labels, k)) > ACCEPT
    for label, n in per_class.items():
        rows = [i for i, other in enumerate(labels) if other == label]
        if spread[label] == 0:  # all of a rare class, always
            assert all(seen_rows[i] == runs for i in rows)
            continue
        squares = sum((seen_rows[i] - expected[label]) ** 2 for i in rows)
        statistic = squares / spread[label] * (n - 1) / n
        assert stats.chi2.sf(statistic, n - 1) > ACCEPT


def test_class_balanced_counts_where_they_are_certain():
    """Classes one after the other: equal shares, up to the tie at the end."""
    labels = [c for c in range(4) for _ in range(50)]
    outcomes = cbrs_counts_exact(labels, 12)
    assert outcomes == {(3, 3, 3, 3): 1}
    for seed in range(5):
        buffer = MultiStrategyBuffer(12, admission="class_balanced", seed=seed)
        feed(buffer, labels, (10,))
        assert buffer.class_counts() == {0: 3, 1: 3, 2: 3, 3: 3}


def test_class_balanced_keeps_all_of_a_rare_class():
    """A class that was never the largest loses nothing."""
    labels = [0] * 30 + [1] + [0] * 30 + [1] + [0] * 30 + [1] + [0] * 30
    for seed in range(20):
        buffer = MultiStrategyBuffer(10, admission="class_balanced", seed=seed)
        kept = stored_by_class(feed(buffer, labels, (7,)))
        assert kept[1] == [i for i, label in enumerate(labels) if label == 1]
        assert len(kept[0]) == 7


def test_class_balanced_first_come_is_not_largest_for_ever():
    """A class counts as largest only in a filled memory (SMALL's "rare class first").

    Otherwise the class of the very first sample would be largest with its one row,
    and a rare class that happens to come first would stay at that row for ever.
    """
    labels = [1] + [0] * 20 + [1] * 3 + [0] * 20
    buffer = MultiStrategyBuffer(10, admission="class_balanced", seed=0)
    assert feed(buffer, labels, (8,)).class_counts() == {0: 6, 1: 4}


# --- fast_reservoir_sampling --------------------------------------------------------


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
