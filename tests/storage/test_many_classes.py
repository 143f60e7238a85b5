"""Tests of avalanche_ext/storage/by_class.py: many classes, the same work a batch.

Decisions are compared with a policy that scans all classes for each row; work is the
number of lines that Python executes.
"""

import random
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from inclusion import feed, stored_by_class

import avalanche_ext.storage
from avalanche_ext.storage import MultiStrategyBuffer

PACKAGE = str(Path(avalanche_ext.storage.__file__).parent)


class Scanning:
    """Class-balancing reservoir sampling with the same draws, row numbers by class."""

    def __init__(self, size, seed):
        self.size, self.rows, self.full, self.seen = size, {}, set(), Counter()
        self.generator = torch.Generator().manual_seed(seed)
        self.number = 0

    def draws(self, *shape):
        return torch.rand(
            *shape, generator=self.generator, dtype=torch.float64
        ).tolist()

    def largest(self):
        most = max(map(len, self.rows.values()))
        return [label for label, rows in self.rows.items() if len(rows) == most]

    def note_largest(self):
        if sum(map(len, self.rows.values())) == self.size:
            self.full.update(self.largest())

    def offer(self, labels):
        for label in labels:
            self.rows.setdefault(label, [])
        for label, (a, b, c) in zip(labels, self.draws(len(labels), 3), strict=True):
            self.note_largest()
            self.seen[label] += 1
            held = self.rows[label]
            if sum(map(len, self.rows.values())) < self.size:
                held.append(self.number)
            elif label not in self.full:
                largest = self.largest()
                victims = self.rows[largest[int(a * len(largest))]]
                victims[int(b * len(victims))] = victims[-1]
                victims.pop()
                held.append(self.number)
            elif a * self.seen[label] < len(held):
                held[int(c * len(held))] = self.number
            self.number += 1
            self.note_largest()

    def evict(self, n):
        for chance in self.draws(n):
            rows = self.rows[self.largest()[0]]
            rows.pop(int(chance * len(rows)))

    def resize(self, size):
        stored = sum(map(len, self.rows.values()))
        if stored > size:
            self.evict(stored - size)
        self.size = size


@pytest.mark.parametrize("classes", [3, 40, 300])
@pytest.mark.parametrize("seed", range(6))
def test_class_balanced_decides_as_if_it_scanned_all_classes(classes, seed):
    rng = random.Random(seed)
    size = classes + rng.randrange(3 * classes)
    reference = Scanning(size, seed)
    buffer = MultiStrategyBuffer(size, admission="class_balanced", seed=seed)
    weights = [rng.random() ** 3 for _ in range(classes)]
    for step in range(60):
        labels = rng.choices(range(classes), weights, k=rng.choice([1, 10, 60]))
        feed(buffer, labels, (len(labels),), start=reference.number)
        reference.offer(labels)
        if step % 8 == 5:
            n = rng.randrange(len(buffer))
            buffer.evict(n)
            reference.evict(n)
        if step % 20 == 19:
            size = classes + rng.randrange(3 * classes)
            buffer.resize(None, size)
            reference.resize(size)
        if step % 7 == 6:
            loaded = MultiStrategyBuffer(size, admission="class_balanced", seed=0)
            loaded.load_state_dict(buffer.state_dict())
            buffer = loaded
        assert stored_by_class(buffer) == {
            label: sorted(rows) for label, rows in reference.rows.items() if rows
        }


@pytest.mark.parametrize("per_class", [None, 2])
@pytest.mark.parametrize("seed", range(3))
def test_ring_of_many_classes_equals_queues(per_class, seed):
    """Whatever has come and gone, a class keeps its last rows, as many as its share."""
    classes, rng = 150, random.Random(seed)
    buffer = MultiStrategyBuffer(400, admission="ring", per_class=per_class, seed=0)
    labels = []
    for _ in range(150):
        new = rng.choices(range(classes), k=rng.choice([1, 3, 20]))
        feed(buffer, new, (len(new),), start=len(labels))
        labels += new
        share, more = divmod(400, len(set(labels)))
        kept = stored_by_class(buffer)
        for rank, label in enumerate(dict.fromkeys(labels)):
            quota = min(per_class or 400, share + (rank < more))
            rows = [i for i, other in enumerate(labels) if other == label]
            assert kept[label] == rows[-quota:]


def lines(work):
    """Lines of the storage package that run in ``work()``."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def full_memory(admission, classes, rows_a_class):
    """A full memory, each class with its share."""
    size = rows_a_class * classes
    buffer = MultiStrategyBuffer(size, admission=admission, seed=0)
    return feed(buffer, list(range(classes)) * rows_a_class, (classes,))


@pytest.mark.parametrize("admission", ["ring", "class_balanced"])
def test_a_batch_takes_the_same_work_for_any_number_of_classes(admission):
    def work(classes):
        buffer = full_memory(admission, classes, 2)
        rng = random.Random(0)
        batches = [[rng.randrange(classes) for _ in range(10)] for _ in range(20)]
        return lines(lambda: [feed(buffer, batch, (10,)) for batch in batches])

    assert work(1000) < 1.3 * work(10)


@pytest.mark.parametrize("admission", ["ring", "class_balanced"])
def test_a_new_class_takes_the_same_work_for_any_number_of_classes(admission):
    """As long as the others lose no more rows by it: here two or three."""

    def work(classes):
        buffer = full_memory(admission, classes, 2)
        buffer.resize(None, 5 * classes // 2)
        feed(buffer, list(range(classes)) * 2, (classes,))
        return lines(lambda: feed(buffer, [classes], (1,)))

    assert work(1000) < 1.3 * work(10)
