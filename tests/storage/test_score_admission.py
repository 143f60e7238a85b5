"""avalanche_ext/storage/score_admission.py against a list of rows, one leaving at a time.

Rows come with values of their own. The reference is a list of dictionaries in the order
in which rows came; slots are asked for only where the policy names them.
"""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memories import through_disk
from slow_scores import leaving

from avalanche_ext.storage.policy import Compared
from avalanche_ext.storage.score_admission import Score
from avalanche_ext.storage.slots import moves

BALANCES = ["class", "none"]


class Kept:
    """A policy, the rows that it keeps by slot, and the reference."""

    def __init__(self, balance, size):
        self.balance, self.size = balance, size
        self.policy = Score(balance)
        self.slots = []  # the row at each slot
        self.rows = []  # those of the reference, as they came
        self.met = []
        self.number = 0

    def values(self, rows):
        return torch.tensor([row["value"] for row in rows], dtype=torch.float64)

    def expected(self, rows, n):
        """What is left of rows, in the order given."""
        met = self.met if self.balance == "class" else None
        gone = leaving([r["class"] for r in rows], [r["value"] for r in rows], n, met)
        return [row for i, row in enumerate(rows) if i not in gone]

    def offer(self, batch):
        """Rows of (class, value)."""
        new = []
        for label, value in batch:
            new.append({"number": self.number, "class": label, "value": value})
            self.number += 1
            if label not in self.met:
                self.met.append(label)
        if self.policy.needs_groups:
            groups = [row["class"] for row in new]
            assert self.policy.surplus(groups, self.size) == []
        else:
            groups = range(len(new))
        stored = len(self.slots)
        slots = self.policy.admit(
            groups,
            stored,
            self.size,
            torch.Generator(),
            Compared(
                self.values(self.slots + new) if stored + len(new) > self.size else None
            ),
        )
        # New slots continue those held; all others take the place of a row.
        assert sorted(s for s in slots if s >= stored) == list(
            range(stored, min(self.size, stored + len(new)))
        )
        assert len(set(slots.values())) == len(slots)
        self.slots += [None] * (max(slots, default=-1) + 1 - stored)
        for slot, position in slots.items():
            self.slots[slot] = new[position]
        self.check(self.rows + new, max(0, stored + len(new) - self.size))

    def evict(self, n):
        values = self.values(self.slots)
        gone = self.policy.victims(
            n, len(self.slots), torch.Generator(), Compared(values)
        )
        assert len(set(gone)) == len(gone) == n
        moved = moves(gone, len(self.slots))
        for old, new in moved.items():
            self.slots[new] = self.slots[old]
        del self.slots[len(self.slots) - n :]
        self.policy.forget(gone, moved)
        self.check(self.rows, n)

    def check(self, rows, excess):
        """Exactly those that the reference keeps are kept."""
        if self.balance == "none":  # of equal values that at the lowest slot leaves
            kept = sorted(row["value"] for row in self.slots)
            assert kept == sorted(row["value"] for row in rows)[excess:]
            self.rows = [row for row in rows if row in self.slots]
        else:
            self.rows = self.expected(rows, excess)
        numbers = sorted(row["number"] for row in self.slots)
        assert numbers == [row["number"] for row in self.rows]
        assert len(self.slots) <= self.size


BATCH = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
    max_size=14,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), BATCH),
        st.tuples(st.just("evict"), st.integers(0, 5)),
        st.tuples(st.just("resize"), st.integers(4, 9)),
        st.tuples(st.just("load"), st.none()),
    ),
    max_size=8,
)


@pytest.mark.parametrize("balance", BALANCES)
@given(size=st.integers(4, 9), steps=STEPS)
def test_any_sequence_against_a_list(balance, size, steps):
    """Batches larger than the memory, values that are equal, evictions, states."""
    kept = Kept(balance, size)
    for what, how in steps:
        if what == "offer":
            kept.offer(how)
        elif what == "evict":
            kept.evict(max(0, min(how, len(kept.slots) - 1)))
        elif what == "resize":
            kept.evict(max(0, len(kept.slots) - how))
            kept.size = how
        else:
            state = through_disk(kept.policy.state_dict())
            kept.policy = Score(balance)
            kept.policy.load_state_dict(state)


@pytest.mark.parametrize("balance", BALANCES)
def test_equal_values_one_after_the_other(balance):
    """Of equal values the one stored first leaves; a newcomer is the last."""
    policy = Score(balance)
    if policy.needs_groups:
        policy.surplus([0] * 3, 3)
    groups = [0] * 3 if policy.needs_groups else range(3)
    assert policy.admit(groups, 0, 3, torch.Generator()) == {0: 0, 1: 1, 2: 2}
    equal = torch.ones(4, dtype=torch.float64)
    assert policy.admit(groups[:1], 3, 3, torch.Generator(), Compared(equal)) == {0: 0}
    slots = [
        policy.admit(groups[:1], 3, 3, torch.Generator(), Compared(equal))
        for _ in range(3)
    ]
    if balance == "class":
        assert slots == [{1: 0}, {2: 0}, {0: 0}]
    else:
        assert slots == [{0: 0}] * 3  # by slot: who came when is not known


def test_the_largest_class_loses_its_lowest_whatever_the_values_of_others():
    policy = Score("class")
    groups = ["a", "a", "a", "b"]
    policy.surplus(groups, 4)
    policy.admit(groups, 0, 4, torch.Generator())
    values = torch.tensor([5.0, 3.0, 4.0, 0.0, 0.0])  # the last: a newcomer of "b"
    policy.surplus(["b"], 4)
    assert policy.admit(["b"], 4, 4, torch.Generator(), Compared(values)) == {1: 0}
    # Now two of each: of classes alike the one met first gives way.
    policy.surplus(["c"], 4)
    values = torch.tensor([5.0, 0.0, 4.0, 0.0, 0.0])
    assert policy.admit(["c"], 4, 4, torch.Generator(), Compared(values)) == {2: 0}


def test_a_newcomer_of_the_largest_class_must_be_better_than_one_of_its_own():
    for value, slots in ((0.5, {}), (2.5, {1: 0})):
        policy = Score("class")
        policy.surplus(["a", "a", "b"], 3)
        policy.admit(["a", "a", "b"], 0, 3, torch.Generator())
        values = torch.tensor([3.0, 2.0, 0.0, value])
        assert policy.admit(["a"], 3, 3, torch.Generator(), Compared(values)) == slots


def test_no_class_starves_whatever_the_values():
    """Classes that come one after the other, each worth less than the one before."""
    policy, size, slots = Score("class"), 20, {}
    for label in range(5):
        for _ in range(30):
            policy.surplus([label] * 3, size)
            stored = min(len(slots), size)
            held = [-float(slots[s]) for s in range(stored)]
            values = torch.tensor(held + [-float(label)] * 3)
            admitted = policy.admit(
                [label] * 3, stored, size, torch.Generator(), Compared(values)
            )
            slots |= dict.fromkeys(admitted, label)
    assert Counter(slots.values()) == dict.fromkeys(range(5), 4)


def test_without_balance_rows_of_the_highest_value_are_kept():
    policy = Score("none")
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    slots = policy.admit(range(50), 0, 10, torch.Generator(), Compared(values))
    assert sorted(slots.values()) == values.topk(10).indices.sort().values.tolist()
    assert sorted(slots) == list(range(10))


@pytest.mark.parametrize("balance", BALANCES)
def test_infinite_values(balance):
    policy = Score(balance)
    groups = [0, 0, 0] if policy.needs_groups else range(3)
    policy.surplus(groups, 2)
    values = torch.tensor([-torch.inf, torch.inf, 0.0])
    assert policy.admit(groups, 0, 2, torch.Generator(), Compared(values)) == {
        0: 1,
        1: 2,
    }


def test_values_are_needed_where_not_all_fit():
    policy = Score("none")
    with pytest.raises(ValueError, match="the values of 0 rows stored and 3 that arr"):
        policy.admit(range(3), 0, 2, torch.Generator())
    with pytest.raises(ValueError, match="give a model"):
        policy.admit(range(3), 0, 2, torch.Generator(), Compared(torch.ones(2)))
    with pytest.raises(ValueError, match="evicts by value: give a model"):
        policy.victims(1, 2, torch.Generator())


def test_more_classes_than_rows():
    with pytest.raises(ValueError, match="2 rows cannot balance 3 classes"):
        Score("class").surplus([0, 1, 2], 2)
    assert Score("none").surplus([0, 1, 2], 2) == []


def test_unknown_balance():
    with pytest.raises(ValueError, match=r"'herring': choose one of \('class', 'none'"):
        Score("herring")
