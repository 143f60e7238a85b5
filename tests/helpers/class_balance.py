"""Class-balancing reservoir sampling by its definition: with all outcomes, and a die."""

from collections import Counter, defaultdict
from fractions import Fraction


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
