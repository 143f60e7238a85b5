"""Samples fed to a memory, and exact checks of how likely each is to be kept.

Statistical checks use fixed seeds, so they give the same answer in every run; each is
shown to reject a sampler that is slightly wrong.
"""

import itertools
import math
from collections import Counter, defaultdict

import torch
from scipy import stats

# A correct sampler fails one check in ten thousand, and those with our seeds pass.
ACCEPT = 1e-4
# A wrong one must be beyond doubt.
REJECT = 1e-7


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


def each_included(sets, probabilities):
    """p-value of every sample's own inclusion probability (Bonferroni)."""
    counts = Counter(itertools.chain.from_iterable(sets))
    worst = min(
        stats.binomtest(counts[i], len(sets), p).pvalue
        for i, p in enumerate(probabilities)
    )
    return min(1.0, worst * len(probabilities))
