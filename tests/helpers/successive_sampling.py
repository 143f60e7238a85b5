"""Exact probabilities of successive sampling, by going through all sequences."""

import itertools
from collections import defaultdict

import numpy as np
import torch


def sequence_probabilities(weights, n):
    """Every ordered draw of ``n`` rows without replacement → its probability."""
    found = {}
    for sequence in itertools.permutations(range(len(weights)), n):
        left, chance = sum(weights), 1.0
        for row in sequence:
            chance *= weights[row] / left
            left -= weights[row]
        found[sequence] = chance
    return found


def subset_probabilities(weights, n):
    """Every subset of ``n`` rows → the probability that it is drawn."""
    found = defaultdict(float)
    for sequence, chance in sequence_probabilities(weights, n).items():
        found[tuple(sorted(sequence))] += chance
    return dict(found)


def inclusion_probabilities(weights, n):
    """Of each row: that it is among ``n`` drawn."""
    subsets = subset_probabilities(weights, n)
    return [
        sum(chance for subset, chance in subsets.items() if row in subset)
        for row in range(len(weights))
    ]


def every_race(rates, n):
    """All ways in which ``n`` rows arrive before time τ and the next one at τ.

    The density of one (subset S, next row k, τ) is ``r_k e^{−r_k τ} Π_S (1 − e^{−r_i
    τ}) Π_rest e^{−r_j τ}``; times are nodes of a quadrature, so sums over all races
    are expectations, to about 1e-12.

    :return: exponential numbers ``r_i t_i`` that make these races, shape (races, N);
        the probability of each, shape (races,); the subset of each.
    """
    rates = np.asarray(rates, dtype=float)
    time, share = _quadrature(40 / rates.min(), 1 / rates.sum())
    numbers, chances, subsets = [], [], []
    for subset in itertools.combinations(range(len(rates)), n):
        others = [row for row in range(len(rates)) if row not in subset]
        for following in others:
            density = rates[following] * np.exp(-np.outer(time, rates[others]).sum(1))
            density *= (-np.expm1(-np.outer(time, rates[list(subset)]))).prod(1)
            arrival = np.full((len(time), len(rates)), 2.0) * time[:, None]
            arrival[:, list(subset)] = time[:, None] / 2
            arrival[:, following] = time
            numbers.append(arrival * rates)
            chances.append(density * share)
            subsets += [subset] * len(time)
    return (
        torch.from_numpy(np.concatenate(numbers)),
        torch.from_numpy(np.concatenate(chances)),
        subsets,
    )


def _quadrature(end, scale):
    """Gauss-Legendre on panels that widen with time."""
    edges = scale * np.concatenate(([0], np.geomspace(1e-3, end / scale, 40)))
    node, weight = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges) / 2
    middle = (edges[:-1] + edges[1:]) / 2
    return (
        (middle[:, None] + half[:, None] * node).ravel(),
        (half[:, None] * weight).ravel(),
    )
