"""Tests of avalanche_ext/storage/by_class.py: what is kept, and how likely.

The references are the papers' definitions written out: a queue per class for the ring
(Chaudhry et al. 2019), and for class balance (Chrysakis & Moens 2020, Algorithm 1)
every outcome of every die with its exact probability.
"""

import math
import random
from collections import Counter, defaultdict, deque
from fractions import Fraction

import pytest
from class_balance import cbrs_counts_exact, cbrs_exact, cbrs_simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from inclusion import (
    ACCEPT,
    REJECT,
    chi_square,
    cut,
    each_included,
    feed,
    stored,
    stored_by_class,
    uniform_subsets,
)
from scipy import stats

from avalanche_ext.storage import MultiStrategyBuffer

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
