"""avalanche_ext/storage/class_slots.py against a list in order."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avalanche_ext.storage.class_slots import ClassSlots, some_of


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=40))
def test_any_sequence_against_a_list(steps):
    slots, expected = ClassSlots(range(4)), [0, 1, 2, 3]
    for adds, slot in steps:
        if adds and slot not in expected:
            slots.add(slot)
            expected.append(slot)
        elif not adds and slot in expected:
            slots.remove(slot)
            expected.remove(slot)
        assert list(slots) == expected
        assert len(slots) == len(expected)
        assert sorted(slots.places) == sorted(expected)
    other = ClassSlots(expected)
    other.place_as(slots.places)
    for slot in expected[::2]:
        slots.remove(slot)
        other.remove(slot)
        assert (list(other), other.places) == (list(slots), slots.places)


def test_all_of_few_in_order():
    draw = torch.Generator().manual_seed(0)
    before = draw.get_state()
    classes = [ClassSlots([4, 1]), ClassSlots(), ClassSlots([0])]
    assert some_of(classes, 3, draw).tolist() == [4, 1, 0]
    assert some_of([], 3, draw).tolist() == []
    assert draw.get_state().equal(before)


def test_of_more_each_is_as_probable():
    """One of seven in at most three distinct draws: ``1 − (6/7)³``."""
    draw = torch.Generator().manual_seed(0)
    classes = [
        ClassSlots([9, 3, 7]),
        ClassSlots(),
        ClassSlots([2]),
        ClassSlots([5, 0, 4]),
    ]
    counts = Counter()
    for _ in range(4000):
        found = some_of(classes, 3, draw).tolist()
        assert 1 <= len(set(found)) == len(found) <= 3
        counts.update(found)
    assert set(counts) == {9, 3, 7, 2, 5, 0, 4}
    for count in counts.values():
        assert count / 4000 == pytest.approx(1 - (6 / 7) ** 3, abs=0.04)  # five sd
