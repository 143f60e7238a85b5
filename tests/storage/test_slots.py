"""avalanche_ext/storage/slots.py: against a list from which rows are taken."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avalanche_ext.storage.slots import moves


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_the_rows_left_fill_the_first_slots(data):
    length = data.draw(st.integers(1, 12))
    gone = data.draw(st.sets(st.integers(0, length - 1)))
    moved = moves(gone, length)
    rows = dict(enumerate("abcdefghijkl"[:length]))
    left = {slot: row for slot, row in rows.items() if slot not in gone}
    after = {moved.get(slot, slot): row for slot, row in left.items()}
    assert sorted(after) == list(range(len(left)))
    assert sorted(after.values()) == sorted(left.values())
    assert all(slot >= len(left) for slot in moved)  # no other row moves


@pytest.mark.parametrize("slot", [-1, 3])
def test_a_slot_without_a_row_is_refused(slot):
    with pytest.raises(ValueError, match=r"are not all among the 3 held"):
        moves([0, slot], 3)
