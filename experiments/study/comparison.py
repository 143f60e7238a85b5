"""Arms beside references, seed by seed."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
    """An arm less a reference, over the seeds that both have."""

    mean: float
    error: float
    """Standard error of the mean of the differences."""
    p: float
    """Of a paired t-test, two-sided; 1 where there are fewer than two seeds."""
    seeds: int


def paired(arm: Mapping[str, float], reference: Mapping[str, float]) -> Difference:
    """The difference of two arms on the same seeds, whose streams are the same.

    >>> paired({"0": 3.0, "1": 5.0, "2": 4.0}, {"0": 1.0, "1": 2.0, "2": 3.0})[:2]
    (2.0, 0.5773502691896258)
    """
    from scipy.stats import t as student  # heavy, and the command line imports us

    seeds = sorted(set(arm) & set(reference))
    apart = np.array([arm[seed] - reference[seed] for seed in seeds])
    if len(apart) < 2:
        mean = float(apart.mean()) if len(apart) else np.nan
        return Difference(mean, np.nan, 1.0, len(apart))
    error = float(apart.std(ddof=1) / np.sqrt(len(apart)))
    mean = float(apart.mean())
    if error == 0:
        return Difference(mean, 0.0, float(mean == 0), len(apart))
    p = float(2 * student.sf(abs(mean / error), len(apart) - 1))
    return Difference(mean, error, p, len(apart))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p-values of several comparisons, corrected: the i-th smallest of m, times m − i.

    S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6,
    1979.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for i, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = max(largest, min(1.0, (len(p) - i) * p[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p}
