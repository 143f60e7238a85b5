"""avalanche_ext/storage/memory.py: any sequence of operations, with scores.

As in test_memory_operations.py each row tells its own number; here each can also be asked
whether its scores and features are its own, and those that they should be.
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
from memories import inputs, numbers_of, through_disk
from slow_memory import MODELS, NoModel, SlowMemory
from slow_scores import leaving

from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.coreset import Coreset
from avalanche_ext.storage.criteria import CRITERIA
from avalanche_ext.storage.priority import Priority
from avalanche_ext.storage.softmax import Softmax

QUICK = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
APART = 1e-4  # values nearer than that may be in either order

SAMPLINGS = {
    "uniform": {},
    "mixed": {"name": "mixed"},
    "priority": {},  # by the criteria of the memory
    "coreset": {"features": True},
    **{name: {"name": name} for name in CRITERIA},
}
OBJECTS = {
    Softmax("loss", 0.1, replacement=True): {"name": "loss"},
    Softmax("mixed", temperature=3.0): {"name": "mixed"},
    Priority("gradient", beta=1.0): {"name": "gradient"},
    Priority("diversity", replacement=True): {"name": "diversity"},
    Coreset(): {"features": True},
}
NEEDS = {**SAMPLINGS, **OBJECTS}

criteria = st.lists(st.sampled_from(CRITERIA), min_size=1, max_size=4, unique=True)
criteria = criteria.filter(lambda names: names != ["energy"])  # no priority: below 0
samplings = st.sampled_from(list(NEEDS))
models = st.sampled_from([None, *range(len(MODELS))])
present = precondition(lambda self: getattr(self, "slow", None) and self.slow.rows)


class ScoredMachine(RuleBasedStateMachine):
    admission = "reservoir"
    balance = "class"
    smallest = 1

    @initialize(data=st.data(), names=criteria, sampling=samplings)
    def create(self, data, names, sampling):
        self.with_task = data.draw(st.booleans(), label="with task")
        weights = {n: data.draw(st.sampled_from([0.0, 1.0, 2.5])) for n in names}
        if not any(weights.values()):
            weights[names[0]] = 1.0
        drawn = [data.draw(st.sampled_from([0.0, 0.5])) for _ in range(2)]
        terms = drawn if self.admission == "score" else [0.0, 0.0]
        self.options = {
            "criteria": names,
            "weights": weights,
            "admission": self.admission,
            "balance": self.balance,
            "sampling": sampling,
            "w_age": terms[0],
            "w_use": terms[1],
        }
        size = data.draw(st.integers(self.smallest, 9), label="max_size")
        self.buffer = MultiStrategyBuffer(size, **self.options, seed=0)
        self.slow = SlowMemory(weights, *terms)
        self.number, self.met = 0, []
        priority = names[0] if len(names) == 1 else "mixed"
        self.needs = {**NEEDS, "priority": {"name": priority}}
        self.slow.need(**self.needs[sampling])
        if self.admission == "score":
            self.slow.need("mixed")

    # What to keep

    @rule(
        labels=st.lists(st.integers(0, 3), min_size=1, max_size=12),
        model=models,
        compute=st.booleans(),
    )
    def add(self, labels, model, compute):
        slow, size = self.slow, self.buffer.max_size
        if model is not None:
            slow.model = model
        counts = slow.seen
        new = [
            slow.new(self.number + i, y, y // 2 if self.with_task else None)
            for i, y in enumerate(labels)
        ]
        self.number += len(new)
        self.met += [c for c in map(self.of_class, new) if c not in self.met]
        full = len(slow.rows) + len(new) > size
        batch = (
            inputs([row["number"] for row in new]),
            torch.tensor(labels),
            torch.tensor(labels) // 2 if self.with_task else None,
        )
        given = {
            "model": None if model is None else MODELS[model],
            "compute_scores": compute,
        }
        known = self.admission == "score" and full
        if known:
            try:
                slow.seen = counts  # stored rows are scored before the others count
                slow.settle()
                slow.arrive(new)
                slow.seen += len(new)
            except NoModel:
                slow.seen = counts
                with pytest.raises(
                    ValueError, match="needs a model, and there is none"
                ):
                    self.buffer.add(*batch, **given)
                return
        slots = self.buffer.add(*batch, **given).tolist()
        now = numbers_of(self.buffer.table.column("x"))
        rows = slow.rows + new
        if known:
            values = slow.values(new)
            self.check_leaving(rows, values, set(now))
        by_number = {row["number"]: row for row in rows}
        for row, slot in zip(new, slots, strict=True):
            assert (now[slot] == row["number"]) if slot >= 0 else True
            assert (slot >= 0) == (row["number"] in now)
            if known:
                row["scored"] = slow.seen
        slow.rows = [by_number[number] for number in now]
        if model is not None and compute and any(slot >= 0 for slot in slots):
            slow.settle()

    @present
    @rule(data=st.data())
    def evict(self, data):
        n = data.draw(st.integers(0, len(self.slow.rows) - 1))
        self.shrink(n, lambda: self.buffer.evict(n))

    @rule(data=st.data())
    def resize(self, data):
        size = data.draw(st.integers(self.smallest, 12))
        n = max(0, len(self.slow.rows) - size)
        if self.shrink(n, lambda: self.buffer.resize(None, size)):
            assert self.buffer.max_size == size

    def shrink(self, n, how):
        slow = self.slow
        by_value = self.admission == "score" and n
        if by_value:
            try:
                slow.settle()
            except NoModel:
                with pytest.raises(
                    ValueError, match="needs a model, and there is none"
                ):
                    how()
                return False
        how()
        now = numbers_of(self.buffer.table.column("x")) if slow.rows else []
        if by_value:
            self.check_leaving(slow.rows, slow.values(), set(now))
        if self.admission != "ring":  # a ring's quotas may shrink further
            assert len(now) == len(slow.rows) - n
        by_number = {row["number"]: row for row in slow.rows}
        slow.rows = [by_number[number] for number in now]
        return True

    def of_class(self, row):
        return (row["task"], row["y"]) if self.with_task else row["y"]

    def check_leaving(self, rows, values, now):
        """Of each class as many leave as the reference says, those of lowest value."""
        met = self.met if self.balance == "class" else None
        classes = [self.of_class(row) if met else None for row in rows]
        gone = [row["number"] not in now for row in rows]
        expected = leaving(classes, values, sum(gone), met)
        assert Counter(classes[i] for i in expected) == Counter(
            c for c, left in zip(classes, gone, strict=True) if left
        )
        for own in set(classes):
            each = [x for x in zip(classes, gone, values, strict=True) if x[0] == own]
            left = [value for _, out, value in each if out]
            held = [value for _, out, value in each if not out]
            assert not left or not held or max(left) <= min(held) + APART

    # What to replay

    @present
    @rule(n=st.integers(0, 12), sampling=st.none() | samplings, model=models)
    def sample(self, n, sampling, model):
        slow = self.slow
        if model is not None:
            slow.model = model
        needs = self.needs[self.options["sampling"] if sampling is None else sampling]
        slow.need(**needs)
        given = {"model": None if model is None else MODELS[model]}
        count = min(n, len(slow.rows))
        drawing = self.buffer.state_dict()["drawing"]
        if needs and count < len(slow.rows):
            try:
                slow.settle()
            except NoModel:
                with pytest.raises(
                    ValueError, match="needs a model, and there is none"
                ):
                    self.buffer.sample(n, sampling, **given)
                return
        rows = self.buffer.sample(n, sampling, **given)
        slow.draws += 1
        assert rows.batch_size == (count,)
        index, numbers = rows["index"].tolist(), numbers_of(rows["x"])
        drawn = [slow.rows[slot] for slot in index]
        assert [row["number"] for row in drawn] == numbers
        own = self.options["sampling"] if sampling is None else sampling
        if count == len(slow.rows):
            assert index == list(range(count))
            assert torch.equal(drawing, self.buffer.state_dict()["drawing"])
        elif not getattr(own, "replacement", False):
            assert len(set(index)) == count
        for row in drawn:
            row["uses"] += 1
        for name in ("y", "arrival", "uses", "drawn"):
            assert rows[name].tolist() == [row[name] for row in drawn]
        assert (rows["weight"] > 0).all()
        if own != "priority" and not isinstance(own, Priority):
            assert rows["weight"].tolist() == [1.0] * count

    @rule(name=st.sampled_from([*CRITERIA, "mixed"]))
    def scores(self, name):
        self.slow.need(name)
        try:
            self.slow.settle()
        except NoModel:
            with pytest.raises(ValueError, match="needs a model, and there is none"):
                self.buffer.scores(name)
            return
        found = self.buffer.scores(name).double()
        expected = torch.tensor(self.slow.scores(name), dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=APART)

    @present
    @rule(data=st.data(), model=models, every=st.booleans())
    def refresh(self, data, model, every):
        slow = self.slow
        if model is not None:
            slow.model = model
        places = range(len(slow.rows))
        chosen = places if every else data.draw(st.sets(st.sampled_from(places)))
        slots = None if every else torch.tensor(sorted(chosen), dtype=torch.long)
        given = None if model is None else MODELS[model]
        try:
            slow.refresh([slow.rows[slot] for slot in sorted(chosen)])
        except NoModel:
            with pytest.raises(ValueError, match="needs a model, and there is none"):
                self.buffer.refresh(given, slots=slots)
            return
        self.buffer.refresh(given, slots=slots)

    @rule(seed=st.integers(10, 19))
    def round_trip(self, seed):
        state = through_disk(self.buffer.state_dict())
        size = self.buffer.max_size
        self.buffer = MultiStrategyBuffer(size, **self.options, seed=seed)
        self.buffer.load_state_dict(state)
        self.slow.model = None  # which is not part of it

    @invariant()
    def aligned(self):
        if not hasattr(self, "slow"):
            return
        buffer, slow = self.buffer, self.slow
        assert len(buffer) == len(slow.rows) <= buffer.max_size
        assert (buffer.seen, buffer.draws) == (slow.seen, slow.draws)
        if not slow.rows:
            return
        table = buffer.table
        assert numbers_of(table.column("x")) == [r["number"] for r in slow.rows]
        assert buffer.ages.tolist() == [slow.seen - r["arrival"] for r in slow.rows]
        assert buffer.uses.tolist() == [row["uses"] for row in slow.rows]
        for name in ("y", "drawn", *["task"] * self.with_task):
            assert table.column(name).tolist() == [row[name] for row in slow.rows]
        stale = slow.stale()
        assert buffer.stale.tolist() == [row in stale for row in slow.rows]
        columns = {f"score_{name}" for name in slow.kept}
        assert {name for name in table.columns if name[:6] == "score_"} == columns
        assert ("scored" in table.columns) == bool(slow.kept or slow.features)
        known = [slot for slot, row in enumerate(slow.rows) if row["scored"] >= 0]
        if not known or "scored" not in table.columns:
            return
        rows = [slow.rows[slot] for slot in known]
        assert table.column("scored")[known].tolist() == [r["scored"] for r in rows]
        for name in slow.kept:
            expected = torch.tensor([row["scores"][name] for row in rows])
            found = table.column(f"score_{name}")[known]
            torch.testing.assert_close(found, expected, **CLOSE)
        if slow.features:
            expected = torch.tensor([row["feature"] for row in rows])
            found = buffer.scorer.scores.nearest.features[known]
            torch.testing.assert_close(found, expected, **CLOSE)


class RingMachine(ScoredMachine):
    admission, smallest = "ring", 4


class ClassBalancedMachine(ScoredMachine):
    admission, smallest = "class_balanced", 4


class HerdingMachine(ScoredMachine):
    admission, smallest = "herding", 4


class ScoreMachine(ScoredMachine):
    admission, smallest = "score", 4


class ScoreOfAllMachine(ScoreMachine):
    balance, smallest = "none", 1


TestReservoir = ScoredMachine.TestCase
TestRing = RingMachine.TestCase
TestClassBalanced = ClassBalancedMachine.TestCase
TestHerding = HerdingMachine.TestCase
TestScore = ScoreMachine.TestCase
TestScoreOfAll = ScoreOfAllMachine.TestCase
TestReservoir.settings = TestRing.settings = TestClassBalanced.settings = QUICK
TestHerding.settings = TestScore.settings = TestScoreOfAll.settings = QUICK
