"""avalanche_ext/storage/memory.py: any sequence of operations against dictionaries.

Every sample has a number that can be read off its input, so whatever the memory does,
each row can be asked whether its target, task, age and uses are still its own.
"""

from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from memories import ADMISSIONS, inputs, numbers_of, plain, through_disk

from avalanche_ext.storage import MultiStrategyBuffer

QUICK = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class BufferMachine(RuleBasedStateMachine):
    """Any sequence of operations; the reference tracks arrival and uses by number."""

    admission = "reservoir"
    smallest = 1  # capacity: at least the four classes where these share it

    @initialize(data=st.data(), seed=st.integers(0, 9), with_task=st.booleans())
    def create(self, data, seed, with_task):
        self.with_task = with_task
        size = data.draw(st.integers(self.smallest, 9), label="max_size")
        self.buffer = MultiStrategyBuffer(size, admission=self.admission, seed=seed)
        self.facts = []  # one dictionary a sample offered, by number
        self.kept = set()

    @rule(labels=st.lists(st.integers(0, 3), min_size=1, max_size=12))
    def add(self, labels):
        first = len(self.facts)
        numbers = list(range(first, first + len(labels)))
        for number, y in zip(numbers, labels, strict=True):
            self.facts.append(
                {"y": y, "task": y // 2, "arrival": number + 1, "uses": 0}
            )
        slots = self.buffer.add(
            inputs(numbers),
            torch.tensor(labels),
            torch.tensor(labels) // 2 if self.with_task else None,
        )
        assert slots.dtype == torch.int64
        assert slots.shape == (len(labels),)
        now = numbers_of(self.buffer.table.column("x"))
        assert set(now) <= self.kept | set(numbers)
        said = {
            number: slot
            for number, slot in zip(numbers, slots.tolist(), strict=True)
            if slot >= 0
        }
        assert len(set(said.values())) == len(said)
        # The slots are where the rows are, and no newcomer is anywhere else.
        assert said == {n: slot for slot, n in enumerate(now) if n >= first}
        self.kept = set(now)

    @precondition(lambda self: getattr(self, "kept", None))
    @rule(n=st.integers(0, 12))
    def sample(self, n):
        rows = self.buffer.sample(n)
        assert rows.batch_size == (min(n, len(self.kept)),)
        numbers = numbers_of(rows["x"])
        assert len(set(numbers)) == len(numbers)
        assert set(numbers) <= self.kept
        by_slot = numbers_of(self.buffer.table.column("x"))
        assert [by_slot[i] for i in rows["index"].tolist()] == numbers
        assert rows["y"].tolist() == [self.facts[i]["y"] for i in numbers]
        assert ("task" in set(rows.keys())) == self.with_task
        if self.with_task:
            assert rows["task"].tolist() == [self.facts[i]["task"] for i in numbers]
        assert torch.equal(rows["weight"], torch.ones(len(numbers)))
        for number in numbers:
            self.facts[number]["uses"] += 1

    @precondition(lambda self: len(getattr(self, "kept", ())) > 1)
    @rule(data=st.data())
    def evict(self, data):
        n = data.draw(st.integers(1, len(self.kept) - 1))
        self.buffer.evict(n)
        now = set(numbers_of(self.buffer.table.column("x")))
        assert now < self.kept
        assert len(now) == len(self.kept) - n
        self.kept = now

    @precondition(lambda self: getattr(self, "kept", None))
    @rule(more=st.integers(0, 3))
    def evict_too_many(self, more):
        n = len(self.kept) + more
        with pytest.raises(ValueError, match=str(n)):
            self.buffer.evict(n)

    @rule(data=st.data())
    def resize(self, data):
        size = data.draw(st.integers(self.smallest, 12))
        grows = size >= self.buffer.max_size
        self.buffer.resize(None, size)
        assert self.buffer.max_size == size
        if self.kept:
            now = set(numbers_of(self.buffer.table.column("x")))
            assert now <= self.kept
            if grows or self.admission != "ring":  # a ring's quotas shrink at once
                assert len(now) == min(size, len(self.kept))
            self.kept = now

    @rule(seed=st.integers(10, 19))
    def round_trip(self, seed):
        state = through_disk(self.buffer.state_dict())
        self.buffer = MultiStrategyBuffer(
            self.buffer.max_size, admission=self.admission, seed=seed
        )
        self.buffer.load_state_dict(state)

    @invariant()
    def aligned(self):
        if not hasattr(self, "kept"):
            return
        buffer = self.buffer
        assert buffer.seen == len(self.facts)
        assert len(buffer) == len(self.kept) == len(buffer.table)
        assert len(buffer) <= buffer.max_size
        if not self.facts:
            return
        numbers = numbers_of(buffer.table.column("x"))
        facts = [self.facts[i] for i in numbers]
        assert len(set(numbers)) == len(numbers)
        assert set(numbers) == self.kept
        assert buffer.table.column("y").tolist() == [f["y"] for f in facts]
        if self.with_task:
            assert buffer.table.column("task").tolist() == [f["task"] for f in facts]
        assert buffer.ages.tolist() == [len(self.facts) - f["arrival"] for f in facts]
        assert buffer.uses.tolist() == [f["uses"] for f in facts]
        counts = Counter(
            (f["task"], f["y"]) if self.with_task else f["y"] for f in facts
        )
        assert {c: m for c, m in buffer.class_counts().items() if m} == counts


class RingMachine(BufferMachine):
    admission = "ring"
    smallest = 4


class ClassBalancedMachine(BufferMachine):
    admission = "class_balanced"
    smallest = 4


TestReservoir = BufferMachine.TestCase
TestRing = RingMachine.TestCase
TestClassBalanced = ClassBalancedMachine.TestCase
TestReservoir.settings = TestRing.settings = TestClassBalanced.settings = QUICK


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_what_is_kept_does_not_depend_on_what_is_drawn(admission):
    """Admission and draws have a generator each, and not the same numbers."""

    def kept(draws, evict):
        memory = MultiStrategyBuffer(12, admission=admission, seed=0)
        for first in range(0, 5000, 100):
            memory.add(*plain(100, first))
            for _ in range(draws):
                memory.draw(5)
        if evict:
            memory.evict(4)
            memory.add(*plain(100, 5000))
        return memory.table.column("x")

    for evict in (False, True):
        assert torch.equal(kept(0, evict), kept(3, evict))
    memory = MultiStrategyBuffer(12, admission=admission, seed=0)
    generators = memory._admitting, memory._drawing.generator
    one, other = (torch.rand(4, generator=generator) for generator in generators)
    assert not torch.isclose(one, other).any()
